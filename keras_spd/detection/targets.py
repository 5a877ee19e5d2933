"""Assigns ground-truth boxes to predictions, by the ratio of box to anchor.

Each box claims up to 5 cells for each anchor of a level. All candidates are computed and a mask
selects the ones that count, so that tensor shapes only depend on the padded number of boxes.
"""

from typing import Any, NamedTuple

from keras import ops

from keras_spd.typing import Tensor

# The cell with the box's centre, and its neighbours left, above, right and below.
_OFFSETS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))


class Targets(NamedTuple):
    """The targets of one level. `boxes` and `anchors` have one more axis than the others."""

    mask: Any  # (images, candidates), boolean: whether the candidate counts
    cell: Any  # (images, candidates), index into (row, column, anchor), flattened
    boxes: Any  # (images, candidates, 4), center_xywh in grid cells, relative to the cell
    anchors: Any  # (images, candidates, 2), (width, height) in grid cells
    classes: Any  # (images, candidates), class index; 0 where masked


def match_level(
    boxes: Tensor,
    classes: Tensor,
    mask: Tensor,
    anchors: Tensor,
    stride: int,
    grid_hw: Any,
    ratio_threshold: float,
) -> Targets:
    """Matches boxes to the cells and anchors of one level.

    A box matches an anchor if width and height both differ by a factor below `ratio_threshold`.
    It is assigned to the cell that contains its centre and to the up to two neighbouring cells
    that are closest to the centre.

    Args:
        boxes: Tensor of shape `(images, boxes, 4)`, center_xywh in pixels, finite.
        classes: Integer tensor of shape `(images, boxes)`.
        mask: Boolean tensor of shape `(images, boxes)`, false for padding.
        anchors: Tensor of shape `(anchors, 2)`, widths and heights in pixels.
        stride: Integer, pixels per cell.
        grid_hw: Rows and columns of the level.
        ratio_threshold: Number above 1.

    Returns:
        `Targets` with `5 * anchors * boxes` candidates per image.

    Source: `ComputeLoss.build_targets` in `YOLOv5-SPD/utils/loss.py` of LabSAINT/SPD-Conv.
    """
    rows, columns = grid_hw
    num_anchors = anchors.shape[0]
    size = ops.cast(ops.stack([columns, rows]), "float32")
    boxes, anchors = boxes / stride, anchors / stride  # to grid cells

    sides = ops.where(mask[..., None], boxes[..., 2:], 1.0)
    ratio = sides[:, None] / anchors[None, :, None]  # (images, anchors, boxes, 2)
    worst = ops.max(ops.maximum(ratio, 1 / ratio), axis=-1)
    matches = (worst < ratio_threshold) & mask[:, None]

    centres = boxes[..., :2]
    from_end = size - centres
    near_start = (centres % 1 < 0.5) & (centres > 1)  # (images, boxes, 2): left, above
    near_end = (from_end % 1 < 0.5) & (from_end > 1)  # right, below
    near = ops.concatenate([mask[..., None], near_start, near_end], axis=-1)
    near = ops.transpose(near, (0, 2, 1))  # (images, 5, boxes)

    offsets = 0.5 * ops.convert_to_tensor(_OFFSETS, "float32")
    cells = ops.trunc(centres[:, None] - offsets[None, :, None])  # (images, 5, boxes, 2)
    cells = ops.clip(cells, 0.0, size - 1)
    relative = centres[:, None] - cells
    relative = ops.concatenate(
        [relative, ops.broadcast_to(sides[:, None], ops.shape(relative))], axis=-1
    )

    index = ops.arange(num_anchors, dtype="int32")[None, None, :, None]
    cells = ops.cast(cells, "int32")
    cell = (cells[..., 1] * columns + cells[..., 0])[:, :, None] * num_anchors + index
    classes = ops.where(mask, classes, 0)

    images, num_boxes = ops.shape(boxes)[:2]
    shape = [images, len(_OFFSETS), num_anchors, num_boxes]

    def flatten(x: Tensor, *last: int) -> Tensor:
        x = ops.broadcast_to(x, [*shape, *last])
        return ops.reshape(x, [images, len(_OFFSETS) * num_anchors * num_boxes, *last])

    return Targets(
        mask=flatten(near[:, :, None] & matches[:, None]),
        cell=flatten(cell),
        boxes=flatten(relative[:, :, None], 4),
        anchors=flatten(anchors[None, None, :, None], 2),
        classes=flatten(classes[:, None, None]),
    )
