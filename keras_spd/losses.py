"""Losses of classifiers that Keras lacks."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_spd.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_spd")
class WeightedCrossEntropy(keras.losses.Loss):
    """The cross-entropy of each image, times the weight of its class.

    The weight of a soft label is the mean of the classes' weights, weighted by the label.

    Args:
        loss: Loss with `reduction="none"`.
        weights: A number for each class.
        soft_labels: Whether labels are probabilities `(images, classes)`, not classes `(images,)`.
    """

    def __init__(
        self, loss: keras.losses.Loss, weights: Sequence[float], soft_labels: bool
    ) -> None:
        super().__init__(name="weighted_cross_entropy")
        self.loss, self.weights, self.soft_labels = loss, tuple(weights), soft_labels

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        losses = self.loss(y_true, y_pred)
        weights = ops.convert_to_tensor(self.weights, losses.dtype)
        if self.soft_labels:
            return losses * ops.sum(ops.cast(y_true, losses.dtype) * weights, axis=-1)
        return losses * ops.take(weights, ops.cast(ops.reshape(y_true, (-1,)), "int32"))

    def get_config(self) -> dict[str, Any]:
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "weights": self.weights,
            "soft_labels": self.soft_labels,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
