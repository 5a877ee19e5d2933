"""The loss of YOLOv5 and YOLOv5-SPD."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spd.boxes import check_box_format, complete_iou, convert_boxes
from keras_spd.detection.anchors import RATIO_THRESHOLD, Anchors, level_stride, standardize_anchors
from keras_spd.detection.targets import Targets, match_level
from keras_spd.typing import Tensor

# Objectness weight of each level, finest first, by the number of levels.
_BALANCE = {3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}


@keras.saving.register_keras_serializable(package="keras_spd")
class YOLOV5Loss(keras.losses.Loss):
    """The authors' detection loss: CIoU for boxes, cross-entropy for objectness and classes.

    `components` returns the three parts. The loss is their sum times the number of images in the
    batch, as in the authors' code, so their learning rates carry over.

    Tensor shapes only depend on the padded ground truth, and memory grows with the number of
    boxes. The loss is computed in float32, whatever the model's dtype. Boxes are ignored if they
    have no area, non-finite coordinates, a class out of range, or lie outside the image.

    Args:
        num_classes: Integer.
        bounding_box_format: Format of the ground truth, a name in `keras_spd.boxes.BOX_FORMATS`.
        anchors: `{level: ((width, height), ...)}` in pixels; `None` for the default anchors.
        label_smoothing: Number between 0 and 1. Class targets are `1 - label_smoothing / 2` and
            `label_smoothing / 2`.
        box_gain: Number, weight of the box loss for 3 levels.
        objectness_gain: Number, weight of the objectness loss for 3 levels and images of 640
            pixels. It is scaled with the square of the longest side.
        class_gain: Number, weight of the class loss for 3 levels and 80 classes. It is scaled
            with the number of classes.
        ratio_threshold: Number. A box matches an anchor if width and height both differ by a
            smaller factor.
        name: Name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`.

    Raises:
        ValueError: If an argument, the ground truth or a prediction is not as described.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3)
    >>> loss = keras_spd.detection.YOLOV5Loss(num_classes=3, bounding_box_format="xywh")
    >>> model.compile(optimizer="adam", loss=loss)

    Source: `ComputeLoss` in `YOLOv5-SPD/utils/loss.py` of LabSAINT/SPD-Conv, and the scaling of
    the gains in its `train.py`.
    """

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
        kwargs.setdefault("reduction", "sum")
        super().__init__(name=name, **kwargs)
        if isinstance(num_classes, bool) or not hasattr(num_classes, "__index__"):
            raise ValueError(f"`num_classes` must be an integer. Received: {num_classes!r}.")
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"`label_smoothing` must be at least 0 and below 1. Received: {label_smoothing}."
            )
        self.num_classes = int(num_classes)
        self.bounding_box_format = check_box_format(bounding_box_format)
        self.anchors = anchors if anchors is None else standardize_anchors(anchors, list(anchors))
        self.label_smoothing = label_smoothing
        self.box_gain = box_gain
        self.objectness_gain = objectness_gain
        self.class_gain = class_gain
        self.ratio_threshold = ratio_threshold

    def call(self, y_true: dict[str, Tensor], y_pred: dict[str, Tensor]) -> Tensor:
        parts = self.components(y_true, y_pred)
        images = ops.cast(ops.shape(next(iter(y_pred.values())))[0], "float32")
        return images * (parts["box_loss"] + parts["objectness_loss"] + parts["class_loss"])

    def components(self, y_true: dict[str, Tensor], raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Computes the three parts of the loss, gains included, as means over the batch.

        Args:
            y_true: `{"boxes": (images, boxes, 4), "classes": (images, boxes)}`, padded with
                boxes of class -1.
            raw: Raw predictions, `{level: (images, rows, columns, anchors, 5 + num_classes)}`.

        Returns:
            Dictionary of the scalars `box_loss`, `objectness_loss` and `class_loss`.

        Raises:
            ValueError: If a shape is not as described, or boxes are ragged.
        """
        levels = self._check_predictions(raw)
        anchors = standardize_anchors(self.anchors, levels)
        boxes, classes = _check_ground_truth(y_true)
        raw = {level: ops.cast(raw[level], "float32") for level in levels}
        rows, columns = ops.shape(raw[levels[0]])[1:3]
        stride = level_stride(levels[0])
        image_size = (rows * stride, columns * stride)
        boxes, mask = self._usable(boxes, classes, image_size)

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
        longest_side = ops.cast(ops.maximum(*image_size), "float32")
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
        count = _per_replica(ops.sum(weight))
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
        objectness_loss = ops.mean(_cross_entropy(wanted, flat[:, 4]))

        if self.num_classes == 1:
            return box_loss, objectness_loss, 0.0
        wanted = ops.one_hot(ops.reshape(targets.classes, (-1,)), self.num_classes)
        wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / 2
        class_loss = ops.mean(_cross_entropy(wanted, matched[:, 5:]), axis=-1)
        return box_loss, objectness_loss, ops.sum(weight * class_loss) / count

    def _usable(self, boxes: Tensor, classes: Tensor, image_size: Any) -> tuple[Tensor, Tensor]:
        """Returns finite center_xywh boxes in pixels, and a mask of those that count."""
        finite = ops.all(ops.isfinite(boxes), axis=-1) & (classes >= 0)
        boxes = ops.where(finite[..., None], boxes, 0.0)
        corners = convert_boxes(boxes, self.bounding_box_format, "xyxy", image_size)
        height, width = (ops.cast(side, "float32") for side in image_size)
        mask = (
            finite
            & (classes < self.num_classes)
            & (corners[..., 2] > corners[..., 0])
            & (corners[..., 3] > corners[..., 1])
            & (corners[..., 0] < width)
            & (corners[..., 1] < height)
            & (corners[..., 2] > 0)
            & (corners[..., 3] > 0)
        )
        boxes = convert_boxes(corners, "xyxy", "center_xywh", image_size)
        return ops.where(mask[..., None], boxes, 1.0), mask

    def _check_predictions(self, raw: Any) -> list[str]:
        if not hasattr(raw, "items") or len(raw) not in _BALANCE:
            raise ValueError(
                "`YOLOV5Loss` takes raw predictions as a dictionary of 3 or 4 levels, as returned "
                f'by `YOLOV5SPD(head="yolov5")`. Received: {type(raw).__name__}'
                + (f" of {sorted(raw)}." if hasattr(raw, "items") else ".")
            )
        for level, predictions in raw.items():
            if len(predictions.shape) != 5 or predictions.shape[-1] != 5 + self.num_classes:
                raise ValueError(
                    f"Predictions of {level} must have the shape (images, rows, columns, anchors, "
                    f"{5 + self.num_classes}), for `num_classes={self.num_classes}`. "
                    f"Received: {tuple(predictions.shape)}."
                )
        return sorted(raw, key=level_stride)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "bounding_box_format": self.bounding_box_format,
            "anchors": self.anchors,
            "label_smoothing": self.label_smoothing,
            "box_gain": self.box_gain,
            "objectness_gain": self.objectness_gain,
            "class_gain": self.class_gain,
            "ratio_threshold": self.ratio_threshold,
        }


def _check_ground_truth(y_true: Any) -> tuple[Tensor, Tensor]:
    if not hasattr(y_true, "keys") or not {"boxes", "classes"} <= set(y_true):
        raise ValueError(
            'The ground truth must be a dictionary {"boxes": (images, boxes, 4), "classes": '
            f"(images, boxes)}}. Received: {type(y_true).__name__}"
            + (f" of {sorted(y_true)}." if hasattr(y_true, "keys") else ".")
        )
    boxes, classes = y_true["boxes"], y_true["classes"]
    if any("Ragged" in type(x).__name__ for x in (boxes, classes)):
        raise ValueError(
            "The ground truth must be dense, padded with boxes of class -1. Received ragged "
            "boxes. Convert them with `keras_spd.data.to_dense(boxes)`."
        )
    if len(boxes.shape) != 3 or boxes.shape[-1] != 4 or len(classes.shape) != 2:
        raise ValueError(
            'The ground truth must have the shapes {"boxes": (images, boxes, 4), "classes": '
            f"(images, boxes)}}. Received: {tuple(boxes.shape)} and {tuple(classes.shape)}."
        )
    return ops.cast(boxes, "float32"), ops.cast(classes, "int32")


def _per_replica(count: Tensor) -> Tensor:
    """Returns the global number of positives (at least 1) divided by the number of replicas.

    Under a `tf.distribute` strategy each replica sees only its part of the batch. If each divides
    its sum by this number, the mean over the replicas equals the mean over the global batch. On
    JAX the batch is one array, however many devices hold it.
    """
    replicas = num_replicas()
    if replicas > 1:
        import tensorflow as tf

        count = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, count)
    return ops.maximum(count, 1.0) / replicas


def num_replicas() -> int:
    """Returns the number of replicas of a `tf.distribute` strategy that share the batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def _cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Binary cross-entropy on logits, elementwise."""
    return ops.maximum(logits, 0) - logits * target + ops.log1p(ops.exp(-ops.abs(logits)))
