"""YOLOv8's anchor-free head, trained with keras-cv's label encoder and CIoU loss."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_spd.detection.anchors import level_stride
from keras_spd.detection.base_loss import (
    DetectionLoss,
    corners,
    cross_entropy,
    flatten,
    per_replica,
)
from keras_spd.detection.decoding import decode_levels, image_size
from keras_spd.detection.heads.decoupled import DecoupledHead
from keras_spd.typing import Tensor

_BINS = 16  # distances 0 to 15, in cells, whose probabilities give the position of a side


@keras.saving.register_keras_serializable(package="keras_spd")
class YOLOV8Loss(DetectionLoss):
    """YOLOv8's loss: CIoU for boxes, cross-entropy for classes, with task-aligned assignment.

    `keras_cv.models.yolov8.LabelEncoder` assigns each box to at most 10 cells with their centre in
    it, those whose predictions fit best. Boxes that contain no cell's centre are not learned. A
    cell's class target is how well its prediction fits, and both losses are divided by the sum of
    these targets. As in keras-cv, there is no distribution focal loss, CIoU weighs different aspect
    ratios by (4 / pi**2)**2 instead of 4 / pi**2, and a prediction whose CIoU is negative competes
    for a cell as if it were positive.

    Args:
        num_classes: Integer.
        bounding_box_format: Format of the ground truth, a name in `keras_spd.boxes.BOX_FORMATS`.
        box_gain: Number, weight of the box loss.
        class_gain: Number, weight of the class loss, a sum over classes.
        name: Name of the loss.
        **kwargs: `class_weights` of `DetectionLoss`, and arguments of `keras.losses.Loss`.

    Raises:
        ValueError: If an argument, the ground truth or a prediction is not as described, or the
            size of the images is unknown.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3, head="yolov8")
    >>> model.compile(loss=keras_spd.detection.YOLOV8Loss(3, box_gain=5.0))

    Source: https://arxiv.org/abs/2108.07755 (assignment); gains as in YOLOv8 and keras-cv.
    """

    head = "yolov8"
    box_outputs = 4 * _BINS

    def __init__(
        self,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        *,
        box_gain: float = 7.5,
        class_gain: float = 0.5,
        name: str = "yolov8_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, bounding_box_format, name=name, **kwargs)
        self.box_gain = box_gain
        self.class_gain = class_gain

    def components(self, y_true: dict[str, Tensor], raw: dict[str, Tensor]) -> dict[str, Tensor]:
        import keras_cv

        self.check_predictions(raw)
        size = image_size(raw)
        if not all(isinstance(side, int) for side in size):
            raise ValueError(
                "The loss of YOLOv8's head needs batches of images whose height and width are "
                "known, as from `keras_spd.data`. Set them in your pipeline, e.g. with "
                "`tf.ensure_shape`, or build the model with `input_shape=(height, width, 3)`."
            )
        boxes, classes, mask = self.usable_boxes(y_true, size)
        head = YOLOV8Head()
        sides = {level: head.sides(level) for level in raw}
        cells = decode_levels({level: x[:1] for level, x in raw.items()}, sides, _cells)[0]
        decoded = head.decode(raw)
        predicted = corners(decoded)
        encoder = keras_cv.models.yolov8.LabelEncoder(
            self.num_classes, max_anchor_matches=min(10, cells.shape[0]), dtype="float32"
        )
        targets, scores, _ = encoder(
            decoded[..., 5:],
            predicted,
            cells[:, :2],
            ops.where(mask, classes, 0),  # the encoder looks up the class of ignored boxes too
            boxes,
            mask[..., None],
        )
        weight = ops.sum(scores, axis=-1)
        total = per_replica(ops.sum(weight))
        strides = cells[:, 2:]
        ciou = keras_cv.losses.CIoULoss("xyxy", reduction="none")
        box_loss = ops.sum(weight * ciou(targets / strides, predicted / strides))
        logits = flatten(raw)[..., self.box_outputs :]
        class_loss = ops.sum(cross_entropy(scores, logits), axis=-1)
        class_loss = ops.sum(self.class_factors(scores) * class_loss)
        return {
            "box_loss": self.box_gain * box_loss / total,
            "class_loss": self.class_gain * class_loss / total,
        }

    def get_config(self) -> dict[str, Any]:
        gains = {"box_gain": self.box_gain, "class_gain": self.class_gain}
        return {**super().get_config(), **gains}


def _cells(x: Tensor, grid: Tensor, stride: int, sides: Tensor) -> Tensor:
    """Returns centre and stride of each cell, in pixels; a `read` for `decode_levels`."""
    centres = (grid + 0.5) * stride
    return ops.concatenate([centres, ops.full_like(centres[..., :1], stride)], axis=-1)


@dataclasses.dataclass(frozen=True)
class YOLOV8Head(DecoupledHead):
    """YOLOv8's head: distances from a cell's centre to the sides of a box, and classes.

    Each of the four distances (left, top, right, bottom) is the mean of 0, 1, ..., 15 cells,
    weighted by the softmax of 16 outputs. There are no anchors.
    """

    loss_type = YOLOV8Loss
    has_anchors = False
    clip_norm = 10.0
    needs_image_size = True

    @classmethod
    def build(cls, levels: Sequence[str], anchors: Any = None) -> Self:
        if anchors:
            raise ValueError(
                f'`head="yolov8"` has no anchors. Received: anchors={anchors!r}. Remove them, '
                'or use head="yolov5" or "retinanet".'
            )
        return cls()

    def read_boxes(
        self, x: Tensor, grid: Tensor, stride: Any, sides: Tensor
    ) -> tuple[Tensor, Tensor]:
        bins = ops.softmax(ops.reshape(x, (-1, _BINS)), axis=-1)
        distances = ops.sum(bins * ops.arange(_BINS, dtype="float32"), axis=-1)
        distances = ops.reshape(distances, (*ops.shape(x)[:-1], 4))
        before, after = distances[..., :2], distances[..., 2:]
        return (grid + 0.5 + (after - before) / 2) * stride, (before + after) * stride

    def box_bias(self, level: str) -> list[float]:
        """Returns biases with which boxes start 4 cells wide, or 15 cells at P5.

        With equal biases, all boxes start 15 cells wide. The assignment raises their IoU with an
        object to the power of 6, so objects smaller than 3 cells were not learned at all.
        """
        slope = 0.0 if level_stride(level) >= 32 else math.log(1.5)
        return [-slope * distance for _ in range(4) for distance in range(_BINS)]

    def class_bias(self, level: str, num_classes: int) -> float:
        """Returns the bias for 5 expected objects in an image of 640x640 pixels, as in YOLOv8."""
        return math.log(5 / num_classes / (640 / level_stride(level)) ** 2)
