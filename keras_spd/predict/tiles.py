"""Merges the boxes found in the tiles of an image."""

import numpy as np

from keras_spd.boxes import area, intersection, intersection_over_union
from keras_spd.detection.decoding import Decoder
from keras_spd.typing import Array

# A box that ends this close to the edge of a tile, as a fraction of its side, may be cut.
_EDGE = 0.01


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


IN_IMAGE, IN_TILE, CUT = range(3)


def merge(boxes: Array, confidence: Array, classes: Array, seen: Array, decoder: Decoder) -> Array:
    """Keeps one box for each object that several tiles contain.

    Boxes found in the whole image, those of large objects, have priority over boxes complete in a
    tile, and those over boxes cut by an edge; within each group, the most confident comes first. A
    box is dropped if a box of higher priority and of the same class (of any class, if the decoder
    is class-agnostic) has an IoU above the decoder's `iou_threshold` with it. A cut box is also
    dropped if such a box covers more than half of it.

    Args:
        boxes: Array `(boxes, 4)`, xyxy.
        confidence, classes: Arrays `(boxes,)`.
        seen: Array `(boxes,)` of `IN_TILE`, `IN_IMAGE` and `CUT`.
        decoder: `Decoder`.

    Returns:
        Indices of the boxes to keep, the most confident first.
    """
    left = np.lexsort((-confidence, seen))
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        one, others = boxes[best], boxes[left]
        same = intersection_over_union(one, others, np) > decoder.iou_threshold
        half = intersection(one, others, np) > 0.5 * area(others, np)
        same |= (seen[left] == CUT) & half
        if not decoder.class_agnostic:
            same &= classes[left] == classes[best]
        left = left[~same]
    order = np.argsort(-confidence[kept], kind="stable")
    return np.array(kept, int)[order]
