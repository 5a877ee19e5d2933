"""The grid of overlapping tiles that large images are cut into, for training and prediction."""

import logging
import math
from collections.abc import Iterable, Sequence

from keras_spd.images.sizes import parse_sides
from keras_spd.typing import Array

_log = logging.getLogger(__name__)
SMALLEST = 32  # pixels, the largest stride of the detectors


def check_tile(tile: int | Sequence[int]) -> tuple[int, int]:
    """Returns the `(height, width)` of a tile, or raises a `ValueError` if it is not one."""
    sides = parse_sides(tile, SMALLEST)
    if sides is None:
        raise ValueError(
            f"`tile` must be one or two integers of at least {SMALLEST} pixels, such as 640. "
            f"Received: tile={tile!r}."
        )
    return sides


def network_size(tile: int | tuple[int, int], stride: int = SMALLEST) -> tuple[int, int]:
    """Returns the `(height, width)` of the smallest network input that holds a tile."""
    height, width = (-(-side // stride) * stride for side in check_tile(tile))
    return height, width


def warn_of_large_tile(sizes: Iterable[tuple[int, int]], tile: tuple[int, int]) -> None:
    """Warns if no image, of these heights and widths, is larger than a tile."""
    sizes = list(sizes)
    if sizes and all(size[0] <= tile[0] and size[1] <= tile[1] for size in sizes):
        _log.warning(
            "No image is larger than a tile of %dx%d pixels, so tiles change nothing.", *tile
        )


def warn_of_missing_tile(sizes: Iterable[tuple[int, int]], trained: tuple[int, int] | None) -> bool:
    """Warns if images are predicted whole by a detector that was trained on tiles of them.

    Returns:
        Boolean, whether a warning was logged.
    """
    missing = trained and any(size[0] > trained[0] or size[1] > trained[1] for size in sizes)
    if trained and missing:
        height, width = trained
        option = f"{height}" if height == width else f"{height}x{width}"
        _log.warning(
            "The detector was trained on tiles of %dx%d pixels, and images are larger: pass "
            "`--tile %s` (in Python, `tile=`).",
            height,
            width,
            option,
        )
    return bool(missing)


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
        overlap: Smallest fraction of a tile that the next tile also covers.

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
