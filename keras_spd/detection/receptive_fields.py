"""Assigns ground-truth boxes to predictions, by receptive fields instead of anchors.

Boxes of a few pixels match no anchor, or few cells. Here each box, however small, is learned by
the three cells whose receptive field fits it best. A cell's effective receptive field and a box
are compared as normal distributions, by the Kullback-Leibler divergence. Then each box gets the
best cell for slightly smaller receptive fields, if no box has it.

Two things follow from YOLOv5's head. It predicts centres less than a cell away and sides up to 4
times the anchor's, so other cells and anchors do not count. A cell has several anchors, and the
one with the most similar sides learns the box.

Source: Xu et al., "RFLA: Gaussian Receptive Field based Label Assignment for Tiny Object
Detection", ECCV 2022, https://arxiv.org/abs/2208.08738.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras import ops

from keras_spd.detection.anchors import level_stride
from keras_spd.detection.targets import Targets
from keras_spd.typing import Tensor

# Sides of the theoretical receptive fields of the backbone of YOLOV5SPD("n") and ("s"), in pixels.
# The effective field is half as large, as in the paper. Deeper sizes use the same.
RECEPTIVE_FIELDS = {"P2": 20, "P3": 64, "P4": 184, "P5": 296}
_CELLS = 3  # cells for each box
_DECAY = 0.9  # of receptive fields for the additional cell
_LARGEST = 4.0  # sides that the head can predict, relative to the anchor
# The four cells whose centres surround the box's centre.
_OFFSETS = ((0, 0), (1, 0), (0, 1), (1, 1))


class _Cells(NamedTuple):
    """The four cells around the centres of boxes on one level."""

    cell: Any  # (images, 4, boxes), index into (row, column), flattened; clipped to the grid
    relative: Any  # (images, 4, boxes, 2), the box's centre relative to the cell, in cells
    usable: Any  # (images, 4, boxes), boolean
    anchor: Any  # (images, boxes), index of the anchor with the most similar sides


def match_receptive_fields(
    boxes: Tensor,
    classes: Tensor,
    mask: Tensor,
    anchors: Mapping[str, Tensor],
    grids: Mapping[str, Any],
) -> dict[str, Targets]:
    """Matches boxes to cells and anchors of all levels.

    Args:
        boxes: Tensor of shape `(images, boxes, 4)`, center_xywh in pixels, finite.
        classes: Integer tensor of shape `(images, boxes)`.
        mask: Boolean tensor of shape `(images, boxes)`, false for padding.
        anchors: `{level: (anchors, 2)}`, widths and heights in pixels.
        grids: `{level: (rows, columns)}`.

    Returns:
        `{level: Targets}`, with `4 * boxes` candidates per image and level.
    """
    levels = list(anchors)
    cells = {
        level: _surrounding(boxes, mask, anchors[level], level_stride(level), grids[level])
        for level in levels
    }
    chosen = _best(boxes, cells, 1.0, _CELLS)
    more = _best(boxes, cells, _DECAY, 1)
    return {
        level: _targets(
            boxes,
            classes,
            chosen[level] | (more[level] & ~_is_taken(chosen[level], cells[level], grids[level])),
            cells[level],
            anchors[level],
            level_stride(level),
        )
        for level in levels
    }


def divergence(boxes: Tensor, centres: Tensor, side: float) -> Tensor:
    """Computes the Kullback-Leibler divergence of a square receptive field from boxes.

    Args:
        boxes: Tensor of shape `(..., 4)`, center_xywh in pixels.
        centres: Tensor of shape `(..., 2)`, centres of the fields in pixels.
        side: Number, side of the effective receptive field in pixels.

    Returns:
        Tensor of shape `(...)`, at least 0.
    """
    shift, sides = boxes[..., :2] - centres, boxes[..., 2:]
    terms = ((side**2 + 4 * shift**2) / sides**2) + 2 * ops.log(sides) - 2 * math.log(side) - 1
    return ops.sum(terms, axis=-1) / 2


def _surrounding(boxes: Tensor, mask: Tensor, anchors: Tensor, stride: int, grid: Any) -> _Cells:
    rows, columns = grid
    size = ops.cast(ops.stack([columns, rows]), "float32")
    centres = boxes[..., :2] / stride
    first = ops.floor(centres - 0.5)
    cells = first[:, None] + ops.convert_to_tensor(_OFFSETS, "float32")[None, :, None]
    inside = ops.all((cells >= 0) & (cells < size), axis=-1)
    clipped = ops.cast(ops.clip(cells, 0.0, size - 1), "int32")

    ratio = boxes[:, :, None, 2:] / anchors  # (images, boxes, anchors, 2)
    reachable = ops.all(ratio < _LARGEST, axis=-1)
    worst = ops.max(ops.maximum(ratio, 1 / ratio), axis=-1)
    anchor = ops.argmin(ops.where(reachable, worst, math.inf), axis=-1)
    usable = inside & (ops.any(reachable, axis=-1) & mask)[:, None]
    return _Cells(
        cell=clipped[..., 1] * columns + clipped[..., 0],
        relative=centres[:, None] - cells,
        usable=usable,
        anchor=ops.cast(anchor, "int32"),
    )


def _best(
    boxes: Tensor, cells: Mapping[str, _Cells], scale: float, count: int
) -> dict[str, Tensor]:
    """Returns whether a cell is one of the `count` best for a box; `(images, 4, boxes)` by level.

    Args:
        boxes: As in `match_receptive_fields`.
        cells: `{level: _Cells}`.
        scale: Number by which receptive fields are multiplied.
        count: Integer.
    """
    scores = []
    for level, found in cells.items():
        stride = level_stride(level)
        centres = boxes[:, None, :, :2] + (0.5 - found.relative) * stride
        side = scale * RECEPTIVE_FIELDS[level] / 2
        score = -divergence(boxes[:, None], centres, side)
        scores.append(ops.where(found.usable, score, -math.inf))
    scores = ops.transpose(ops.concatenate(scores, axis=1), (0, 2, 1))  # (images, boxes, cells)
    _, best = ops.top_k(scores, count)
    places = ops.arange(len(cells) * len(_OFFSETS), dtype=best.dtype)
    chosen = ops.any(best[..., None] == places, axis=2) & (scores > -math.inf)
    chosen = ops.split(ops.transpose(chosen, (0, 2, 1)), len(cells), axis=1)
    return dict(zip(cells, chosen, strict=True))


def _is_taken(chosen: Tensor, cells: _Cells, grid: Any) -> Tensor:
    """Returns whether some box has chosen a cell, with the shape of `chosen`."""
    images = ops.shape(chosen)[0]
    count = grid[0] * grid[1]
    index = ops.arange(images, dtype="int32")[:, None, None] * count + cells.cell
    flat = ops.reshape(ops.cast(chosen, "int32"), (-1,))
    taken = ops.segment_max(flat, ops.reshape(index, (-1,)), num_segments=images * count)
    return ops.take(taken, index) > 0


def _targets(
    boxes: Tensor, classes: Tensor, chosen: Tensor, cells: _Cells, anchors: Tensor, stride: int
) -> Targets:
    images, candidates, num_boxes = ops.shape(chosen)
    shape = [images, candidates, num_boxes]

    def flatten(x: Tensor, *last: int) -> Tensor:
        return ops.reshape(
            ops.broadcast_to(x, [*shape, *last]), [images, candidates * num_boxes, *last]
        )

    sides = ops.broadcast_to(boxes[:, None, :, 2:] / stride, [*shape, 2])
    return Targets(
        mask=flatten(chosen),
        cell=flatten(cells.cell * anchors.shape[0] + cells.anchor[:, None]),
        boxes=flatten(ops.concatenate([cells.relative, sides], axis=-1), 4),
        anchors=flatten(ops.take(anchors / stride, cells.anchor, axis=0)[:, None], 2),
        classes=flatten(ops.where(ops.any(chosen, axis=1), classes, 0)[:, None]),
    )
