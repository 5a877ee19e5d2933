"""Large images in overlapping tiles, and one box for what several tiles have seen."""

import math

import numpy as np

from keras_spd.boxes import area, intersection, intersection_over_union

# A box that ends so near to the edge of a tile, as a share of its sides, may go on behind it.
_EDGE = 0.01


def check_overlap(overlap):
    """Raises a `ValueError` unless `overlap` is a share below one half."""
    if not 0 <= overlap <= 0.5:
        raise ValueError(f"`overlap` must be between 0 and 0.5. Received: overlap={overlap!r}.")
    return overlap


def tile_corners(size, tile, overlap):
    """Returns the top left corners `(row, column)` of tiles that cover an image.

    Args:
        size: `(height, width)` of the image.
        tile: `(height, width)` of a tile.
        overlap: Share of a tile that the next one covers too, at least.

    Example:

    >>> tile_corners((640, 1000), (640, 640), 0.2)
    [(0, 0), (0, 360)]
    """
    rows, columns = (_starts(side, part, overlap) for side, part in zip(size, tile, strict=True))
    return [(row, column) for row in rows for column in columns]


def _starts(side, part, overlap):
    if side <= part:
        return [0]
    step = part * (1 - overlap)
    count = math.ceil((side - part) / step) + 1
    return [round(index * (side - part) / (count - 1)) for index in range(count)]


def is_cut(boxes, corner, tile, size):
    """Tells which boxes end at an edge of their tile that is not an edge of the image.

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


def merge(boxes, confidence, classes, seen, decoder):
    """Picks one box for each object that several tiles have seen.

    Boxes from the image as a whole, which are those of large objects, come first, then those that
    are whole in a tile, then those that an edge has cut; of each, the most confident in front. A
    box is dropped if one of its class (of any, if the decoder is class-agnostic) that came before
    overlaps it by more than the decoder's `iou_threshold`, or, if it is cut, covers more than half
    of it.

    Args:
        boxes: Array `(boxes, 4)`, xyxy.
        confidence, classes: Arrays `(boxes,)`.
        seen: Array `(boxes,)` of `IN_TILE`, `IN_IMAGE` and `CUT`.
        decoder: `Decoder`.

    Returns:
        Indices of the boxes that stay, the most confident first.
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
