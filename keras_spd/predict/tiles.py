"""Merges the boxes found in the tiles of an image."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_spd.boxes import area, intersection, intersection_over_union
from keras_spd.detection.decoding import Decoder
from keras_spd.images.tiles import part_size, tile_corners
from keras_spd.predict.results import Detections
from keras_spd.typing import Array

# A box that ends this close to the edge of a tile, as a fraction of its side, may be cut.
_EDGE = 0.01
# A box found in the whole image is kept if no tile contains it. If the detector was not trained on
# tiles, it is also kept if it is larger than the overlap, or than this fraction of a tile.
_LARGE = 0.2
_PAIRS = 10**6  # that are compared at once, to limit the memory
# Where a box was found, in order of priority: in the whole image, complete in a tile, or cut.
IN_IMAGE, IN_TILE, CUT = range(3)


def is_cut(
    boxes: Array, corner: tuple[int, int], tile: tuple[int, int], size: tuple[int, int]
) -> Array:
    """Returns which boxes end at an edge of their tile that is not an edge of the image.

    Args:
        boxes: Array `(boxes, 4)`, xyxy in pixels of the image.
        corner: `(row, column)` of the tile.
        tile: `(height, width)` of the tile.
        size: `(height, width)` of the image.
    """
    (top, left), (bottom, right) = corner, np.add(corner, tile)
    rows, columns = (max(1.0, _EDGE * side) for side in tile)
    cut = (boxes[:, 0] < left + columns) & (left > 0)
    cut |= (boxes[:, 1] < top + rows) & (top > 0)
    cut |= (boxes[:, 2] > right - columns) & (right < size[1])
    return cut | ((boxes[:, 3] > bottom - rows) & (bottom < size[0]))


class Grid:
    """The tiles of one image, which is predicted as a whole and in tiles.

    Args:
        size: `(height, width)` of the image, in pixels.
        tile: `(height, width)` of a tile.
        overlap: Fraction of a tile that the next tile also covers.
        trained_on_tiles: Boolean, whether the detector was trained on tiles.
    """

    def __init__(
        self,
        size: tuple[int, int],
        tile: tuple[int, int],
        overlap: float,
        trained_on_tiles: bool = False,
    ) -> None:
        self.size, self.tile, self.overlap = size, tile, overlap
        self.trained_on_tiles = trained_on_tiles
        corners = tile_corners(size, tile, overlap)
        self.corners = corners if len(corners) > 1 else []  # an image that is not larger

    @property
    def num_parts(self) -> int:
        """Integer, how many images the network sees: the whole image and its tiles."""
        return 1 + len(self.corners)

    @property
    def tile_boxes(self) -> list[tuple[int, int, int, int]]:
        """The tiles as `(left, top, right, bottom)`, in pixels of the image."""
        height, width = part_size(self.size, self.tile)
        return [(left, top, left + width, top + height) for top, left in self.corners]

    def assemble(
        self, found: Sequence[Detections], decoder: Decoder, max_detections: int | None
    ) -> Detections:
        """Returns the objects in the image.

        Args:
            found: `Detections` of each part: of the whole image and of the tiles.
            decoder: `Decoder`, for `merge`.
            max_detections: Integer, the largest number of objects, or `None`.
        """
        whole, *parts = found
        if not parts:
            return whole
        moved = [whole.select(self._belongs_to_whole(whole.boxes))]
        origin = [np.full(len(moved[0]), IN_IMAGE)]
        for corner, part in zip(self.corners, parts, strict=True):
            boxes = part.boxes + np.array([*corner[::-1], *corner[::-1]], "float32")
            moved.append(dataclasses.replace(part, boxes=boxes))
            origin.append(np.where(is_cut(boxes, corner, self.tile, self.size), CUT, IN_TILE))
        names = ("boxes", "confidence", "classes")
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in moved]) for name in names
        }
        everything = dataclasses.replace(whole, **arrays)
        kept = merge(**arrays, origin=np.concatenate(origin), decoder=decoder)
        return everything.select(kept[:max_detections])

    def _belongs_to_whole(self, boxes: Array) -> Array:
        """Returns which boxes found in the whole image are kept.

        The others are complete in a tile, where the detector sees them at a higher resolution. A
        detector that was not trained on tiles only finds small objects there, so large boxes are
        kept in any case.
        """
        largest = max(self.overlap, _LARGE) * np.array(self.tile[::-1])
        large = (boxes[:, 2:] - boxes[:, :2] > largest).any(axis=1)
        complete = np.zeros(len(boxes), bool)
        for corner, edges in zip(self.corners, self.tile_boxes, strict=True):
            inside = (boxes[:, :2] >= edges[:2]).all(axis=1) & (boxes[:, 2:] <= edges[2:]).all(
                axis=1
            )
            complete |= inside & ~is_cut(boxes, corner, self.tile, self.size)
        return ~complete if self.trained_on_tiles else large | ~complete


def merge(
    boxes: Array, confidence: Array, classes: Array, origin: Array, decoder: Decoder
) -> Array:
    """Keeps one box for each object that several tiles contain.

    Boxes found in the whole image, those of large objects, have priority over boxes complete in a
    tile, and those over boxes cut by an edge; within each group, the most confident comes first. A
    box is dropped if a box of higher priority and of the same class (of any class, if the decoder
    is class-agnostic) has an IoU above the decoder's `iou_threshold` with it. A cut box is also
    dropped if such a box covers more than half of it.

    Args:
        boxes: Array `(boxes, 4)`, xyxy.
        confidence, classes: Arrays `(boxes,)`.
        origin: Array `(boxes,)` of `IN_IMAGE`, `IN_TILE` and `CUT`.
        decoder: `Decoder`.

    Returns:
        Indices of the boxes to keep, the most confident first.
    """
    order = np.lexsort((-confidence, origin))
    boxes, confidence, classes, origin = (x[order] for x in (boxes, confidence, classes, origin))
    kept = np.ones(len(boxes), bool)
    for better, worse in _duplicates(boxes, classes, origin, decoder):
        if kept[better]:
            kept[worse] = False
    best_first = np.argsort(-confidence[kept], kind="stable")
    return order[kept][best_first]


def _duplicates(
    boxes: Array, classes: Array, origin: Array, decoder: Decoder
) -> list[tuple[int, int]]:
    """Returns pairs `(better, worse)` of which only one is kept, sorted by the better box."""
    found: list[tuple[int, int]] = []
    for pairs in _pairs_in_columns(boxes):
        better, worse = pairs.min(axis=0), pairs.max(axis=0)
        one, other = boxes[better], boxes[worse]
        same = intersection_over_union(one, other, np) > decoder.iou_threshold
        half = intersection(one, other, np) > 0.5 * area(other, np)
        same |= (origin[worse] == CUT) & half
        if not decoder.class_agnostic:
            same &= classes[worse] == classes[better]
        found += zip(better[same].tolist(), worse[same].tolist(), strict=True)
    return sorted(found)


def _pairs_in_columns(boxes: Array) -> Iterator[Array]:
    """Yields arrays `(2, pairs)` of boxes that share a column, each pair once.

    Comparing all pairs takes 100 times as long: a large image has thousands of small boxes.
    """
    order = np.argsort(boxes[:, 0], kind="stable")
    left, right = boxes[order, 0], boxes[order, 2]
    number = np.arange(len(boxes))
    counts = np.maximum(np.searchsorted(left, right) - number - 1, 0)
    for part in np.array_split(number, counts.sum() // _PAIRS + 1):
        first = np.repeat(part, counts[part])
        ends = np.cumsum(counts[part])
        offset = np.arange(len(first)) - np.repeat(ends - counts[part], counts[part])
        yield order[np.stack([first, first + 1 + offset])]
