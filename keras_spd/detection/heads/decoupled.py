"""The base class of heads with separate layers for boxes and classes, and no objectness."""

import abc
from typing import Any

from keras import ops

from keras_spd.detection.heads.head import Head
from keras_spd.typing import Tensor


class DecoupledHead(Head):
    """A head whose predictions are the box outputs, then a logit for each class."""

    @abc.abstractmethod
    def read_boxes(
        self, x: Tensor, grid: Tensor, stride: Any, sides: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decodes box outputs.

        Args:
            x: float32 tensor of shape `(..., box_outputs)`.
            grid, stride, sides: As in `read`.

        Returns:
            Two tensors of shape `(..., 2)`: centres (x, y) and sides (width, height), in pixels.
        """

    def box_bias(self, level: str) -> float | list[float]:
        """Returns the initial bias of a level's box outputs: a number, or one for each output."""
        del level
        return 0.0

    @abc.abstractmethod
    def class_bias(self, level: str, num_classes: int) -> float:
        """Returns the initial bias of a level's class logits."""

    def read(self, x: Tensor, grid: Tensor, stride: Any, sides: Tensor) -> Tensor:
        logits = x[..., self.loss_type.box_outputs :]
        centres, sides = self.read_boxes(x[..., : self.loss_type.box_outputs], grid, stride, sides)
        objectness = ops.ones_like(logits[..., :1])
        return ops.concatenate([centres, sides, objectness, ops.sigmoid(logits)], axis=-1)

    def confidence(self, x: Tensor) -> Tensor:
        logits = x[:, self.loss_type.box_outputs :]
        return ops.sigmoid(ops.max(logits, axis=1, keepdims=True))
