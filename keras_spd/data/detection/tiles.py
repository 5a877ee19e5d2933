"""Cuts large images into overlapping tiles when they are read; nothing is written to disk."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from keras_spd.data.detection.boxed_image import BoxedImage
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.images.tiles import (
    check_overlap,
    check_tile,
    crop,
    part_size,
    tile_corners,
)
from keras_spd.typing import Array

_ROUNDING = 1e-6  # tolerance for fractions of an area, and the smallest area in pixels


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Tile(BoxedImage):
    """A part of an image, with the size and the boxes of that part.

    Args:
        parent: `BoxedImage` that it is a part of.
        corner: `(row, column)` of its top left pixel in the parent.
    """

    parent: BoxedImage
    corner: tuple[int, int]

    @property
    def whole(self) -> BoxedImage:
        """The image to decode."""
        return self.parent

    def cut(self, pixels: Array) -> Array:
        """Returns this part of the pixels of `whole`, without copying them."""
        return crop(pixels, self.corner, self.size_hw)

    def read(self) -> Array:
        """Returns the pixels, a uint8 array of shape `(height, width, 3)`."""
        return self.cut(self.parent.read()).copy()  # a view would keep the whole image in memory

    def part_of(self, whole: BoxedImage) -> BoxedImage:
        """Returns the same part of a changed image."""
        return dataclasses.replace(self, parent=whole, max_value=whole.max_value)


def cut_into_tiles(
    data: DetectionData,
    size: int | tuple[int, int],
    overlap: float,
    min_area: float,
    empty: float,
    whole: bool,
    seed: int,
) -> DetectionData:
    """Cuts images into tiles; arguments and result as in `DetectionData.tiles`."""
    tile = check_tile(size)
    check_overlap(overlap)
    for name, fraction in {"min_area": min_area, "empty": empty}.items():
        if not 0 <= fraction <= 1:
            raise ValueError(f"`{name}` must be between 0 and 1. Received: {name}={fraction!r}.")
    if any(isinstance(image, Tile) for image in data.images):
        raise ValueError("These are tiles already. Call `tiles` on the whole images.")
    images: list[BoxedImage] = []
    empty_tiles: list[int] = []  # indices in `images`
    for image in data.images:
        corners = tile_corners(image.size_hw, tile, overlap)
        if len(corners) > 1:
            for part, is_touched in _cut(image, corners, tile, min_area):
                if not is_touched:
                    empty_tiles.append(len(images))
                # Tiles with only crowd regions, or too little of each object, are dropped.
                if not is_touched or not part.crowd.all():
                    images.append(part)
        if len(corners) == 1 or whole:
            images.append(image)
    shuffled = np.random.default_rng(seed).permutation(empty_tiles)
    dropped = set(shuffled[round(empty * len(empty_tiles)) :].tolist())
    kept = tuple(image for index, image in enumerate(images) if index not in dropped)
    _check_boxes(data, kept, tile, min_area)
    # Annotations and notes of the whole images do not describe their tiles.
    return dataclasses.replace(data, images=kept, coco=None)


def _cut(
    image: BoxedImage, corners: Iterable[tuple[int, int]], tile: tuple[int, int], min_area: float
) -> Iterator[tuple[Tile, bool]]:
    """Yields the tiles of an image, and whether any box or crowd region touches them."""
    height, width = part_size(image.size_hw, tile)
    boxes = image.boxes.astype("float64")
    areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), _ROUNDING)
    for top, left in corners:
        inside = np.clip(boxes - [left, top, left, top], 0, [width, height, width, height])
        fraction = (inside[:, 2:] - inside[:, :2]).prod(axis=1) / areas
        kept = (fraction > 0) & ((fraction >= min_area - _ROUNDING) | image.crowd)
        part = Tile(
            image_id=f"{image.image_id}:{top},{left}",
            name=f"{image.name}[{top}:{top + height}, {left}:{left + width}]",
            source=image.source,
            size_hw=(height, width),
            boxes=inside[kept].astype("float32"),
            classes=image.classes[kept],
            crowd=image.crowd[kept],
            max_value=image.max_value,
            parent=image,
            corner=(top, left),
        )
        yield part, bool((fraction > 0).any())


def _check_boxes(
    data: DetectionData, tiles: Iterable[BoxedImage], tile: tuple[int, int], min_area: float
) -> None:
    """Raises a `ValueError` if the images have objects, but no tile has one."""

    def has_objects(images: Iterable[BoxedImage]) -> bool:
        return any((~image.crowd).any() for image in images)

    if has_objects(data.images) and not has_objects(tiles):
        raise ValueError(
            f"No object has {min_area:.0%} of its area in a tile of {tile[0]}x{tile[1]} pixels: "
            "objects are larger. Use larger tiles, or mix in whole images (`whole=True`, "
            "`data.tile_whole`)."
        )
