"""The grid of overlapping tiles that large images are cut into, for training and prediction."""

import math

from keras_spd.typing import Array

SMALLEST = 32  # pixels, the largest stride of the detectors


def check_tile(tile: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the `(height, width)` of a tile, or raises a `ValueError` if it is not one."""
    sides = tuple(tile) if isinstance(tile, (tuple, list)) else (tile, tile)
    if len(sides) != 2 or any(not isinstance(side, int) or side < SMALLEST for side in sides):
        raise ValueError(
            f"`tile` must be one or two integers of at least {SMALLEST} pixels, such as 640. "
            f"Received: tile={tile!r}."
        )
    return sides


def check_overlap(overlap: float) -> float:
    """Returns `overlap` if it is between 0 and 0.5; otherwise raises a `ValueError`."""
    if not 0 <= overlap <= 0.5:
        raise ValueError(f"`overlap` must be between 0 and 0.5. Received: overlap={overlap!r}.")
    return overlap


def tile_corners(
    size: tuple[int, int], tile: tuple[int, int], overlap: float
) -> list[tuple[int, int]]:
    """Returns the top left corners `(row, column)` of tiles that cover an image.

    Args:
        size: `(height, width)` of the image, in pixels.
        tile: `(height, width)` of a tile, in pixels. An image that is smaller in one direction has
            one row or column of tiles, as high or wide as itself.
        overlap: Smallest fraction of a tile that the next tile covers too.

    Example:

    >>> tile_corners((640, 1000), (640, 640), 0.2)
    [(0, 0), (0, 360)]
    """
    rows, columns = (_starts(side, part, overlap) for side, part in zip(size, tile, strict=True))
    return [(row, column) for row in rows for column in columns]


def _starts(side: int, part: int, overlap: float) -> list[int]:
    if side <= part:
        return [0]
    step = part * (1 - overlap)
    count = math.ceil((side - part) / step) + 1
    return [round(index * (side - part) / (count - 1)) for index in range(count)]


def crop(pixels: Array, corner: tuple[int, int], tile: tuple[int, int]) -> Array:
    """Cuts a tile out of an image, an array of shape `(height, width, 3)`."""
    (top, left), (height, width) = corner, tile
    return pixels[top : top + height, left : left + width]


def part_size(size: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
    """Returns the `(height, width)` of the tiles of an image of this size."""
    return min(size[0], tile[0]), min(size[1], tile[1])
