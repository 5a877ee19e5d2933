"""Box formats and overlaps, independent of images and models.

Coordinates are continuous: the pixel in column 0 covers x from 0 to 1. Format names are those of
Keras and keras-cv.
"""

import math
from typing import Any

import keras
from keras import ops

from keras_spd.checks import check_choice
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
_WISE_ALPHA, _WISE_DELTA = 1.9, 3.0


def check_box_format(bounding_box_format: str) -> str:
    """Returns the name of a box format if it is valid; otherwise raises a `ValueError`."""
    check_choice("bounding_box_format", bounding_box_format, BOX_FORMATS)
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
    iou, distance, diagonal = _compare(predicted, target)
    aspect = 4 / math.pi**2 * (_angle(target) - _angle(predicted)) ** 2
    weight = ops.stop_gradient(aspect / (aspect - iou + 1 + _EPSILON))
    return iou - distance / diagonal - weight * aspect


def wise_iou(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the loss of Wise-IoU v1, and the IoU, of center_xywh boxes, elementwise.

    The loss is `1 - IoU`, times a factor between 1 and e for the distance of the centres relative
    to the diagonal of the enclosing box. No gradient is propagated through the diagonal.

    Args:
        predicted, target: Tensors of shape `(..., 4)`.

    Returns:
        Two tensors of shape `(...)`: losses, at least 0, and IoUs.

    Source: Tong et al., "Wise-IoU", 2023, https://arxiv.org/abs/2301.10051 (v1).
    """
    iou, distance, diagonal = _compare(predicted, target)
    return ops.exp(distance / ops.stop_gradient(diagonal)) * (1 - iou), iou


def wise_iou_focus(iou: Tensor, mean_loss: Tensor) -> Tensor:
    """Computes the factor by which Wise-IoU v3 multiplies the loss of v1.

    It is largest for boxes of medium quality: boxes that fit are learned already, and those that
    fit far worse than the mean are often wrong labels. No gradient is propagated through it.

    Args:
        iou: Tensor of IoUs.
        mean_loss: The mean of `1 - IoU` over boxes.

    Returns:
        Tensor with the shape of `iou`, at least 0.

    Source: Tong et al., https://arxiv.org/abs/2301.10051 (v3, with alpha 1.9 and delta 3).
    """
    outlier = ops.stop_gradient((1 - iou) / ops.maximum(mean_loss, _EPSILON))
    return outlier / (_WISE_DELTA * _WISE_ALPHA ** (outlier - _WISE_DELTA))


def normalized_wasserstein(predicted: Tensor, target: Tensor, constant: float) -> Tensor:
    """Computes the normalised Wasserstein distance (NWD) of center_xywh boxes, elementwise.

    Boxes are compared as normal distributions. Unlike the IoU, this similarity is positive for
    boxes that do not overlap, and a shift by a few pixels costs a small box as much as a large one.

    Args:
        predicted, target: Tensors of shape `(..., 4)`.
        constant: Number, about the mean side of the boxes, in the same unit.

    Returns:
        Tensor of shape `(...)`, from 0 for distant boxes to 1 for equal ones.

    Source: Wang et al., "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection",
    2021, https://arxiv.org/abs/2110.13389.
    """
    shift = ops.sum((predicted[..., :2] - target[..., :2]) ** 2, axis=-1)
    change = ops.sum((predicted[..., 2:] - target[..., 2:]) ** 2, axis=-1) / 4
    return ops.exp(-ops.sqrt(shift + change + _EPSILON) / constant)


def _compare(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns IoU, squared distance of the centres, and squared diagonal of the enclosing box."""
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
    return iou, (px - tx) ** 2 + (py - ty) ** 2, diagonal


def _angle(boxes: Tensor) -> Tensor:
    """Returns the arctangent of width over height of center_xywh boxes."""
    return ops.arctan(boxes[..., 2] / (boxes[..., 3] + _EPSILON))
