"""Box formats and overlaps, independent of images and models.

Coordinates are continuous: the pixel in column 0 covers x from 0 to 1. Format names are those of
Keras and keras-cv.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_spd.typing import Tensor

BOX_FORMATS = (
    "xyxy",
    "yxyx",
    "xywh",
    "center_xywh",
    "center_yxhw",
    "rel_xyxy",
    "rel_yxyx",
    "rel_xywh",
    "rel_center_xywh",
)
_EPSILON = 1e-7


def check_box_format(bounding_box_format: str) -> str:
    """Returns the name of a box format if it is valid; otherwise raises a `ValueError`."""
    if bounding_box_format not in BOX_FORMATS:
        raise ValueError(
            f"`bounding_box_format` must be one of {', '.join(BOX_FORMATS)}. "
            f"Received: bounding_box_format={bounding_box_format!r}."
        )
    return bounding_box_format


def convert_boxes(
    boxes: Tensor, source: str, target: str, image_size_hw: tuple[Tensor, Tensor]
) -> Tensor:
    """Converts boxes from one format to another.

    Args:
        boxes: Tensor of shape `(..., boxes, 4)`.
        source, target: Names in `BOX_FORMATS`.
        image_size_hw: Height and width of the image in pixels; only used by relative formats.

    Returns:
        float32 tensor of the same shape.

    Example:

    >>> convert_boxes([[10, 20, 30, 40]], "xyxy", "xywh", (None, None))  # [[10, 20, 20, 20]]
    """
    height, width = image_size_hw
    return keras.utils.bounding_boxes.convert_format(
        ops.cast(boxes, "float32"), source, target, height=height, width=width
    )


def intersection_over_union(boxes_1: Tensor, boxes_2: Tensor, numpy: Any = ops) -> Tensor:
    """Computes the IoU of xyxy boxes, elementwise with broadcasting.

    Args:
        boxes_1, boxes_2: Tensors of shape `(..., 4)`, or arrays with `numpy=np`.
        numpy: Module to compute with, `keras.ops` or `numpy`.

    Returns:
        Tensor or array of shape `(...)`, values 0..1.
    """
    shared = intersection(boxes_1, boxes_2, numpy)
    union = area(boxes_1, numpy) + area(boxes_2, numpy) - shared
    return shared / numpy.maximum(union, _EPSILON)


def intersection(boxes_1: Tensor, boxes_2: Tensor, numpy: Any = ops) -> Tensor:
    """Computes the shared area of xyxy boxes; arguments as in `intersection_over_union`."""
    left_top = numpy.maximum(boxes_1[..., :2], boxes_2[..., :2])
    right_bottom = numpy.minimum(boxes_1[..., 2:], boxes_2[..., 2:])
    return numpy.prod(numpy.maximum(right_bottom - left_top, 0), axis=-1)


def area(boxes: Tensor, numpy: Any = ops) -> Tensor:
    """Computes the area of xyxy boxes, from shape `(..., 4)` to `(...)`."""
    return numpy.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)


def complete_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """Computes the complete IoU (CIoU) of center_xywh boxes, elementwise.

    CIoU is the IoU minus two penalties: the squared distance between the centres, divided by the
    squared diagonal of the enclosing box, and a term for different aspect ratios. No gradient is
    propagated through the weight of that term.

    Args:
        predicted, target: Tensors of shape `(..., 4)`.

    Returns:
        Tensor of shape `(...)`, at most 1; negative for distant boxes.

    Source: Zheng et al., "Distance-IoU Loss", AAAI 2020, https://arxiv.org/abs/1911.08287, with
    small constants in the same places as the authors' `bbox_iou`
    (`YOLOv5-SPD/utils/metrics.py`).
    """
    (px, py, pw, ph), (tx, ty, tw, th) = (
        [boxes[..., i] for i in range(4)] for boxes in (predicted, target)
    )
    left, right = ops.minimum(px - pw / 2, tx - tw / 2), ops.maximum(px + pw / 2, tx + tw / 2)
    top, bottom = ops.minimum(py - ph / 2, ty - th / 2), ops.maximum(py + ph / 2, ty + th / 2)
    shared_width = ops.minimum(px + pw / 2, tx + tw / 2) - ops.maximum(px - pw / 2, tx - tw / 2)
    shared_height = ops.minimum(py + ph / 2, ty + th / 2) - ops.maximum(py - ph / 2, ty - th / 2)
    intersection = ops.maximum(shared_width, 0) * ops.maximum(shared_height, 0)
    ph, th = ph + _EPSILON, th + _EPSILON
    iou = intersection / (pw * ph + tw * th - intersection + _EPSILON)

    diagonal = (right - left) ** 2 + (bottom - top) ** 2 + _EPSILON
    distance = (px - tx) ** 2 + (py - ty) ** 2
    aspect = 4 / math.pi**2 * (ops.arctan(tw / th) - ops.arctan(pw / ph)) ** 2
    weight = ops.stop_gradient(aspect / (aspect - iou + 1 + _EPSILON))
    return iou - distance / diagonal - weight * aspect
