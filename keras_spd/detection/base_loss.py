"""The base class of all heads' losses: checks the ground truth, and counts over all replicas."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from keras_spd.boxes import check_box_format, convert_boxes
from keras_spd.detection.anchors import Anchors, level_stride
from keras_spd.typing import Tensor


class DetectionLoss(keras.losses.Loss, abc.ABC):
    """The loss of a head. Subclasses compute its parts from ground truth and raw predictions.

    The loss is computed in float32, whatever the model's dtype. Boxes are ignored if they have no
    area, non-finite coordinates or a class out of range, or lie outside the image.

    Args:
        num_classes: Integer.
        bounding_box_format: Format of the ground truth, a name in `keras_spd.boxes.BOX_FORMATS`.
        anchors: `{level: ((width, height), ...)}` in pixels, or `None`.
        class_weights: A number for each class, the factor for the class loss of its objects;
            `None` for 1.
        name: Name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`.

    Raises:
        ValueError: If an argument is not as described.
    """

    head: ClassVar[str]
    """The name of the head, as in `YOLOV5SPD(head=...)`."""
    box_outputs: ClassVar[int]
    """Number of outputs of a prediction before those of its classes."""
    parts: ClassVar[tuple[str, ...]] = ("box_loss", "class_loss")
    """Names of the parts that `components` returns."""

    def __init__(
        self,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        *,
        anchors: Anchors | None = None,
        class_weights: Sequence[float] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("reduction", "sum")
        super().__init__(name=name, **kwargs)
        if isinstance(num_classes, bool) or not hasattr(num_classes, "__index__"):
            raise ValueError(f"`num_classes` must be an integer. Received: {num_classes!r}.")
        self.num_classes = int(num_classes)
        self.bounding_box_format = check_box_format(bounding_box_format)
        self.anchors = anchors
        if class_weights is not None and len(class_weights) != self.num_classes:
            raise ValueError(
                f"`class_weights` must have a number for each of {num_classes} classes. "
                f"Received: {class_weights!r}."
            )
        self.class_weights = None if class_weights is None else tuple(map(float, class_weights))
        self.accumulated_batches = 1
        """Number of batches whose gradients the optimizer averages. The loss is a sum over images,
        and then counts those of all these batches."""

    @abc.abstractmethod
    def components(self, y_true: dict[str, Tensor], raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Computes the parts of the loss, gains included, as means over the batch.

        Args:
            y_true: `{"boxes": (images, boxes, 4), "classes": (images, boxes)}`, padded with
                boxes of class -1.
            raw: Raw predictions, `{level: (images, rows, columns, anchors, outputs)}`.

        Returns:
            Dictionary of scalars, named as in `parts`.

        Raises:
            ValueError: If a shape is not as described, or boxes are ragged.
        """

    def total(self, components: dict[str, Tensor], images: Tensor) -> Tensor:
        """Returns the loss to minimise: the sum of its parts, times the number of images."""
        images = images * self.accumulated_batches
        return images * sum(components[part] for part in self.parts)

    def call(self, y_true: dict[str, Tensor], y_pred: dict[str, Tensor]) -> Tensor:
        return self.total(self.components(y_true, y_pred), count_images(y_pred))

    def class_factors(self, wanted: Tensor) -> Tensor | float:
        """Returns the factor for the class loss of each prediction.

        Args:
            wanted: Class targets of shape `(..., classes)`, all 0 for background.

        Returns:
            Tensor of shape `(...)`, the weight of the class with the highest target, 1 for
            background; or 1 without `class_weights`.
        """
        if self.class_weights is None:
            return 1.0
        weights = ops.convert_to_tensor(self.class_weights, "float32")
        factors = ops.take(weights, ops.argmax(wanted, axis=-1))
        return ops.where(ops.max(wanted, axis=-1) > 0, factors, 1.0)

    def check_predictions(self, raw: Any) -> list[str]:
        """Returns the names of the levels, finest first, or raises a `ValueError`."""
        if not hasattr(raw, "items") or not raw:
            raise ValueError(
                f"`{type(self).__name__}` takes raw predictions as a dictionary of levels, as "
                f'returned by `YOLOV5SPD(head="{self.head}")`. Received: {type(raw).__name__}.'
            )
        outputs = self.box_outputs + self.num_classes
        for level, predictions in raw.items():
            if len(predictions.shape) != 5 or predictions.shape[-1] != outputs:
                raise ValueError(
                    f"Predictions of {level} must have the shape (images, rows, columns, anchors, "
                    f"{outputs}), for `num_classes={self.num_classes}`. "
                    f"Received: {tuple(predictions.shape)}."
                )
        return sorted(raw, key=level_stride)

    def usable_boxes(
        self, y_true: dict[str, Tensor], image_size: tuple[Any, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the ground truth as finite boxes in pixels.

        Args:
            y_true: As in `components`.
            image_size: `(height, width)` in pixels.

        Returns:
            xyxy boxes `(images, boxes, 4)`, their classes and a mask `(images, boxes)` of those
            that count. Boxes that do not count are replaced by `(0.5, 0.5, 1.5, 1.5)`.
        """
        boxes, classes = check_ground_truth(y_true)
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
        unit = ops.convert_to_tensor([0.5, 0.5, 1.5, 1.5], "float32")
        return ops.where(mask[..., None], corners, unit), classes, mask

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "bounding_box_format": self.bounding_box_format,
            "anchors": self.anchors,
            "class_weights": self.class_weights,
        }


def check_ground_truth(y_true: Any) -> tuple[Tensor, Tensor]:
    """Returns boxes, float32, and classes, int32, or raises a `ValueError`."""
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


def pad_box(y_true: Any) -> dict[str, Tensor]:
    """Returns ground truth with one more box of class -1, so that there is at least one."""
    boxes, classes = check_ground_truth(y_true)
    return {
        "boxes": ops.pad(boxes, ((0, 0), (0, 1), (0, 0)), constant_values=-1),
        "classes": ops.pad(classes, ((0, 0), (0, 1)), constant_values=-1),
    }


def count_images(raw: dict[str, Tensor]) -> Tensor:
    """Returns the number of images in a batch of raw predictions, float32."""
    return ops.cast(ops.shape(next(iter(raw.values())))[0], "float32")


def flatten(raw: dict[str, Tensor]) -> Tensor:
    """Returns raw predictions of all levels as `(images, predictions, outputs)`, finest first."""
    rows = []
    for level in sorted(raw, key=level_stride):
        images, *sides, outputs = ops.shape(raw[level])
        count = sides[0] * sides[1] * sides[2]
        rows.append(ops.reshape(ops.cast(raw[level], "float32"), (images, count, outputs)))
    return ops.concatenate(rows, axis=1)


def corners(decoded: Tensor) -> Tensor:
    """Returns the xyxy boxes of decoded predictions."""
    return convert_boxes(decoded[..., :4], "center_xywh", "xyxy", (None, None))


def per_replica(count: Tensor) -> Tensor:
    """Returns the global number of positives (at least 1) divided by the number of replicas.

    Under a `tf.distribute` strategy each replica sees only its part of the batch. If each divides
    its sum by this number, the mean over the replicas equals the mean over the global batch. On
    JAX the batch is one array, however many devices hold it.
    """
    return ops.maximum(global_sum(count), 1.0) / num_replicas()


def global_sum(value: Tensor) -> Tensor:
    """Returns the sum of a value over the replicas of a `tf.distribute` strategy."""
    if num_replicas() == 1:
        return value
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)


def num_replicas() -> int:
    """Returns the number of replicas of a `tf.distribute` strategy that share the batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """Binary cross-entropy on logits, elementwise."""
    return ops.maximum(logits, 0) - logits * target + ops.log1p(ops.exp(-ops.abs(logits)))
