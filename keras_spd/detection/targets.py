"""Which predictions are to find which boxes: matching by shape, in fixed shapes.

Every box asks for up to 5 cells at each anchor of a level. All candidates are computed, and a
mask says which count: shapes depend on the padded number of boxes and on nothing else.
"""

from typing import Any, NamedTuple

from keras import ops

from keras_spd.typing import Tensor

# The cell with the box's centre, and its neighbours left, above, right and below.
_OFFSETS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))


class Targets(NamedTuple):
    """What one level is to predict; all of shape `(images, candidates)` or with one more axis."""

    mask: Any  # whether the candidate counts
    cell: Any  # index into (row, column, anchor), flattened
    boxes: Any  # center_xywh in grid cells, relative to the cell; safe numbers where masked
    anchors: Any  # (width, height) in grid cells
    classes: Any  # class index; 0 where masked


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

    A box matches an anchor if width and height both differ by less than `ratio_threshold` times.
    It is to be predicted by the cell its centre lies in and by the up to two neighbours the
    centre is nearest to.

    Args:
        boxes: Tensor of shape `(images, boxes, 4)`, center_xywh in pixels, finite.
        classes: Integer tensor of shape `(images, boxes)`.
        mask: Boolean tensor of shape `(images, boxes)`: which boxes are there.
        anchors: Tensor of shape `(anchors, 2)`, in pixels.
        stride: Integer, pixels per cell.
        grid_hw: Rows and columns of the level.
        ratio_threshold: Number.

    Returns:
        `Targets` with `5 * anchors * boxes` candidates an image.

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
