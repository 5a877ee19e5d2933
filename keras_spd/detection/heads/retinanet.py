"""RetinaNet's head, trained with keras-cv's box matcher, focal loss and smooth L1 loss."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_spd.boxes import convert_boxes, intersection_over_union
from keras_spd.detection.anchors import Anchors, level_stride, standardize_anchors
from keras_spd.detection.base_loss import (
    DetectionLoss,
    corners,
    flatten,
    num_replicas,
    pad_box,
    per_replica,
)
from keras_spd.detection.decoding import image_size
from keras_spd.detection.heads.decoupled import DecoupledHead
from keras_spd.typing import Array, Tensor

_NEGATIVE, _POSITIVE = 0.4, 0.5  # IoU of an anchor with a box; in between, it is ignored
_BACKGROUND, _IGNORED = -1, -2  # instead of the index of a class
_VARIANCE = 0.1, 0.2  # of centres and of sides


def default_anchors(levels: Sequence[str]) -> dict[str, tuple[tuple[float, float], ...]]:
    """Returns the paper's 9 anchors per level: 4 strides wide, at 3 scales and 3 aspect ratios."""
    anchors = {
        level: [
            (side * ratio**0.5, side / ratio**0.5)
            for side in (4 * level_stride(level) * 2 ** (third / 3) for third in range(3))
            for ratio in (0.5, 1, 2)
        ]
        for level in levels
    }
    return standardize_anchors(anchors, levels)


@keras.saving.register_keras_serializable(package="keras_spd")
class RetinaNetLoss(DetectionLoss):
    """RetinaNet's loss: focal loss for classes, smooth L1 for boxes.

    Boxes are matched to anchors with an IoU of at least 0.5 (`keras_cv.layers.BoxMatcher`). Most
    small boxes have no such anchor; they are matched to the anchors with the highest IoU. The
    losses are keras-cv's.

    Args:
        num_classes: Integer.
        bounding_box_format: Format of the ground truth, a name in `keras_spd.boxes.BOX_FORMATS`.
        anchors: `{level: ((width, height), ...)}` in pixels; `None` for the paper's.
        box_gain: Number, weight of the box loss.
        class_gain: Number, weight of the class loss.
        name: Name of the loss.
        **kwargs: `class_weights` of `DetectionLoss`, and arguments of `keras.losses.Loss`.

    Raises:
        ValueError: If an argument, the ground truth or a prediction is not as described.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3, head="retinanet")
    >>> model.compile(loss=keras_spd.detection.RetinaNetLoss(3, box_gain=2.0))

    Source: https://arxiv.org/abs/1708.02002, sections 3 and 4; boxes are encoded as in keras-cv.
    """

    head = "retinanet"
    box_outputs = 4

    def __init__(
        self,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        *,
        anchors: Anchors | None = None,
        box_gain: float = 1.0,
        class_gain: float = 1.0,
        name: str = "retinanet_loss",
        **kwargs: Any,
    ) -> None:
        anchors = anchors if anchors is None else standardize_anchors(anchors, list(anchors))
        super().__init__(num_classes, bounding_box_format, anchors=anchors, name=name, **kwargs)
        self.box_gain = box_gain
        self.class_gain = class_gain

    def components(self, y_true: dict[str, Tensor], raw: dict[str, Tensor]) -> dict[str, Tensor]:
        import keras_cv

        self.check_predictions(raw)
        codes, classes = self.encode_truth(y_true, raw)
        positive = ops.cast(classes >= 0, "float32")
        total = per_replica(ops.sum(positive))
        predictions = flatten(raw)
        smooth = keras_cv.losses.SmoothL1Loss(reduction="none")
        box_loss = ops.sum(positive * smooth(codes, predictions[..., : self.box_outputs]))
        focal = keras_cv.losses.FocalLoss(from_logits=True, reduction="none")
        wanted = ops.one_hot(classes, self.num_classes)
        class_loss = ops.sum(
            ops.cast(classes != _IGNORED, "float32")
            * self.class_factors(wanted)
            * focal(wanted, predictions[..., self.box_outputs :])
        )
        return {
            "box_loss": self.box_gain * box_loss / total,
            "class_loss": self.class_gain * class_loss / total,
        }

    def total(self, components: dict[str, Tensor], images: Tensor) -> Tensor:
        """Returns the loss to minimise: the sum of its parts, as in the paper."""
        return sum(components[part] for part in self.parts) / num_replicas()

    def encode_truth(
        self, y_true: dict[str, Tensor], raw: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Returns the encoded box and the class, `_BACKGROUND` or `_IGNORED` of each anchor."""
        import keras_cv

        boxes, classes, mask = self.usable_boxes(pad_box(y_true), image_size(raw))
        anchors = RetinaNetHead.build(list(raw), self.anchors).corners(raw)
        iou = intersection_over_union(anchors[None, :, None], boxes[:, None])
        iou = ops.where(mask[:, None], iou, 0.0)
        best = ops.max(iou, axis=1, keepdims=True)
        iou = ops.where((iou == best) & (iou > 0), ops.maximum(iou, _POSITIVE), iou)
        matcher = keras_cv.layers.BoxMatcher(
            [_NEGATIVE, _POSITIVE], [_BACKGROUND, _IGNORED, 1], dtype="float32"
        )
        index, kind = matcher(iou)
        codes = encode(ops.take_along_axis(boxes, index[..., None], axis=1), anchors)
        found = ops.take_along_axis(classes, index, axis=1)
        return codes, ops.where(kind == 1, found, kind)

    def get_config(self) -> dict[str, Any]:
        gains = {"box_gain": self.box_gain, "class_gain": self.class_gain}
        return {**super().get_config(), **gains}


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Encodes boxes relative to anchors, as the head predicts them.

    Args:
        boxes, anchors: Tensors of shape `(..., 4)`, xyxy in pixels.

    Returns:
        Tensor of shape `(..., 4)`: y and x of the centre in sides of the anchor, divided by 0.1;
        the logarithms of the ratios of heights and widths, divided by 0.2.
    """
    boxes, anchors = (
        convert_boxes(corners, "xyxy", "center_yxhw", (None, None)) for corners in (boxes, anchors)
    )
    centres = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:]
    sides = ops.log(boxes[..., 2:] / anchors[..., 2:])
    return ops.concatenate([centres / _VARIANCE[0], sides / _VARIANCE[1]], axis=-1)


@dataclasses.dataclass(frozen=True)
class RetinaNetHead(DecoupledHead):
    """RetinaNet's head: boxes relative to anchors, and classes, without objectness.

    Args:
        anchors: `{level: ((width, height), ...)}` in pixels.
    """

    loss_type = RetinaNetLoss

    @classmethod
    def build(cls, levels: Sequence[str], anchors: Any = None) -> Self:
        return cls(standardize_anchors(anchors or default_anchors(levels), levels))

    def read_boxes(
        self, x: Tensor, grid: Tensor, stride: Any, sides: Tensor
    ) -> tuple[Tensor, Tensor]:
        # PyTorch has no `[..., ::-1]`.
        heights_first = ops.flip(sides, axis=-1)
        yx = (ops.flip(grid, axis=-1) + 0.5) * stride + x[..., :2] * _VARIANCE[0] * heights_first
        hw = ops.exp(ops.minimum(x[..., 2:] * _VARIANCE[1], 8.0)) * heights_first
        return ops.flip(yx, axis=-1), ops.flip(hw, axis=-1)

    def class_bias(self, level: str, num_classes: int) -> float:
        """The paper's prior: each class has a probability of 1 %."""
        return -math.log(99)

    def recall(self, sides: Array) -> float:
        anchors = np.concatenate([self.sides(level) for level in self.anchors])
        shared = np.minimum(sides[:, None], anchors).prod(axis=2)
        union = sides.prod(axis=1)[:, None] + anchors.prod(axis=1) - shared
        return float(((shared / union).max(axis=1) >= _POSITIVE).mean())

    def corners(self, raw: dict[str, Tensor]) -> Tensor:
        """Returns the anchors of all predictions as xyxy boxes `(predictions, 4)` in pixels."""
        nothing = {level: ops.zeros_like(x[:1]) for level, x in raw.items()}
        return corners(self.decode(nothing))[0]
