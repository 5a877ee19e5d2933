"""The loss of YOLOv5 and YOLOv5-SPD."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spd.boxes import complete_iou, convert_boxes
from keras_spd.detection.anchors import RATIO_THRESHOLD, Anchors, level_stride, standardize_anchors
from keras_spd.detection.base_loss import DetectionLoss, cross_entropy, per_replica
from keras_spd.detection.decoding import image_size
from keras_spd.detection.targets import Targets, match_level
from keras_spd.typing import Tensor

# Objectness weight of each level, finest first, by the number of levels, as in the authors' code.
_BALANCE = {1: (4.0,), 2: (4.0, 1.0), 3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}


@keras.saving.register_keras_serializable(package="keras_spd")
class YOLOV5Loss(DetectionLoss):
    """The authors' detection loss: CIoU for boxes, cross-entropy for objectness and classes.

    `components` returns the three parts. The loss is their sum times the number of images in the
    batch, as in the authors' code, so their learning rates carry over.

    Tensor shapes only depend on the padded ground truth, and memory grows with the number of
    boxes. The loss is computed in float32, whatever the model's dtype. Boxes are ignored if they
    have no area, non-finite coordinates or a class out of range, or lie outside the image.

    Args:
        num_classes: Integer.
        bounding_box_format: Format of the ground truth, a name in `keras_spd.boxes.BOX_FORMATS`.
        anchors: `{level: ((width, height), ...)}` in pixels; `None` for the default anchors.
        label_smoothing: Number, at least 0 and below 1. Class targets are
            `1 - label_smoothing / 2` and `label_smoothing / 2`.
        box_gain: Number, weight of the box loss for 3 levels.
        objectness_gain: Number, weight of the objectness loss for 3 levels and images of 640
            pixels. It is scaled with the square of the longest side.
        class_gain: Number, weight of the class loss for 3 levels and 80 classes. It is scaled
            with the number of classes.
        ratio_threshold: Number. A box matches an anchor if width and height both differ by a
            smaller factor.
        name: Name of the loss.
        **kwargs: `class_weights` of `DetectionLoss`, and arguments of `keras.losses.Loss`.

    Raises:
        ValueError: If an argument, the ground truth or a prediction is not as described.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3)
    >>> loss = keras_spd.detection.YOLOV5Loss(num_classes=3, bounding_box_format="xywh")
    >>> model.compile(optimizer="adam", loss=loss)

    Source: `ComputeLoss` in `YOLOv5-SPD/utils/loss.py` of LabSAINT/SPD-Conv, and the scaling of
    the gains in its `train.py`.
    """

    head = "yolov5"
    box_outputs = 5
    parts = ("box_loss", "objectness_loss", "class_loss")

    def __init__(
        self,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        *,
        anchors: Anchors | None = None,
        label_smoothing: float = 0.0,
        box_gain: float = 0.05,
        objectness_gain: float = 1.0,
        class_gain: float = 0.5,
        ratio_threshold: float = RATIO_THRESHOLD,
        name: str = "yolov5_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes,
            bounding_box_format,
            anchors=anchors if anchors is None else standardize_anchors(anchors, list(anchors)),
            name=name,
            **kwargs,
        )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"`label_smoothing` must be at least 0 and below 1. Received: {label_smoothing}."
            )
        self.label_smoothing = label_smoothing
        self.box_gain = box_gain
        self.objectness_gain = objectness_gain
        self.class_gain = class_gain
        self.ratio_threshold = ratio_threshold

    def components(self, y_true: dict[str, Tensor], raw: dict[str, Tensor]) -> dict[str, Tensor]:
        levels = self.check_predictions(raw)
        anchors = standardize_anchors(self.anchors, levels)
        raw = {level: ops.cast(raw[level], "float32") for level in levels}
        size = image_size(raw)
        boxes, classes, mask = self.usable_boxes(y_true, size)
        boxes = convert_boxes(boxes, "xyxy", "center_xywh", size)

        box_loss = objectness_loss = class_loss = 0.0
        for level, balance in zip(levels, _BALANCE[len(levels)], strict=True):
            predictions = raw[level]
            targets = match_level(
                boxes,
                classes,
                mask,
                ops.convert_to_tensor(np.array(anchors[level], "float32")),
                level_stride(level),
                ops.shape(predictions)[1:3],
                self.ratio_threshold,
            )
            parts = self._level_loss(predictions, targets)
            box_loss += parts[0]
            objectness_loss += balance * parts[1]
            class_loss += parts[2]

        by_levels = 3 / len(levels)
        longest_side = ops.cast(ops.maximum(*size), "float32")
        return {
            "box_loss": self.box_gain * by_levels * box_loss,
            "objectness_loss": self.objectness_gain
            * by_levels
            * (longest_side / 640) ** 2
            * objectness_loss,
            "class_loss": self.class_gain * by_levels * self.num_classes / 80 * class_loss,
        }

    def _level_loss(self, predictions: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Returns box, objectness and class loss of one level, without gains."""
        images, rows, columns, num_anchors, outputs = ops.shape(predictions)
        cells = rows * columns * num_anchors
        flat = ops.reshape(predictions, (images * cells, outputs))
        index = ops.arange(images, dtype="int32")[:, None] * cells + targets.cell
        index = ops.reshape(index, (-1,))
        mask = ops.reshape(targets.mask, (-1,))
        weight = ops.cast(mask, "float32")
        count = per_replica(ops.sum(weight))
        matched = ops.take(flat, index, axis=0)  # (candidates, outputs)

        offset = 2 * ops.sigmoid(matched[:, :2]) - 0.5
        sides = (2 * ops.sigmoid(matched[:, 2:4])) ** 2 * ops.reshape(targets.anchors, (-1, 2))
        overlap = complete_iou(
            ops.concatenate([offset, sides], axis=-1), ops.reshape(targets.boxes, (-1, 4))
        )
        box_loss = ops.sum(weight * (1 - overlap)) / count

        # If several boxes claim a cell and anchor, the last one wins, as in the authors' scatter.
        order = ops.where(mask, ops.arange(ops.size(index), dtype="int32"), -1)
        last = ops.segment_max(order, index, num_segments=images * cells)
        score = ops.take(ops.maximum(ops.stop_gradient(overlap), 0), ops.maximum(last, 0))
        wanted = ops.where(last >= 0, score, 0.0)
        objectness_loss = ops.mean(cross_entropy(wanted, flat[:, 4]))

        if self.num_classes == 1:
            return box_loss, objectness_loss, 0.0
        wanted = ops.one_hot(ops.reshape(targets.classes, (-1,)), self.num_classes)
        wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / 2
        class_loss = ops.mean(cross_entropy(wanted, matched[:, 5:]), axis=-1)
        weight = weight * self.class_factors(wanted)
        return box_loss, objectness_loss, ops.sum(weight * class_loss) / count

    def check_predictions(self, raw: Any) -> list[str]:
        if not hasattr(raw, "items") or len(raw) not in _BALANCE:
            raise ValueError(
                "`YOLOV5Loss` takes raw predictions as a dictionary of 1 to 4 levels, as returned "
                f'by `YOLOV5SPD(head="yolov5")`. Received: {type(raw).__name__}'
                + (f" of {sorted(raw)}." if hasattr(raw, "items") else ".")
            )
        return super().check_predictions(raw)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "box_gain": self.box_gain,
            "objectness_gain": self.objectness_gain,
            "class_gain": self.class_gain,
            "ratio_threshold": self.ratio_threshold,
        }
