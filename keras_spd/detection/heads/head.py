"""The interface of a detector's head."""

import abc
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from keras_spd.detection.anchors import Anchors, level_stride
from keras_spd.detection.base_loss import DetectionLoss
from keras_spd.detection.decoding import decode_levels
from keras_spd.typing import Array, Tensor


@dataclasses.dataclass(frozen=True)
class Head(abc.ABC):
    """Defines what raw predictions mean: how they become boxes, and which loss trains them.

    For every head, raw predictions are `{level: (images, rows, columns, anchors, outputs)}`, the
    outputs of the box first and those of the classes last. A head without anchors has one
    prediction for each cell. The fields of a head are its config.

    Args:
        anchors: `{level: ((width, height), ...)}` in pixels; empty if the head has none.
    """

    loss_type: ClassVar[type[DetectionLoss]]
    """The loss that the head is trained with."""
    has_anchors: ClassVar[bool] = True
    """Whether boxes are relative to anchors."""
    clip_norm: ClassVar[float | None] = None
    """The global norm to which gradients are clipped, as by the head's authors; `None` for no
    clipping."""

    needs_image_size: ClassVar[bool] = False
    """Whether the loss needs the height and width of images to be known when it is traced."""

    anchors: Anchors = dataclasses.field(default_factory=dict)

    @classmethod
    @abc.abstractmethod
    def build(cls, levels: Sequence[str], anchors: Any = None) -> Self:
        """Returns the head for some levels, with checked or default anchors.

        Raises:
            ValueError: If the anchors are not as described, or the head takes none.
        """

    @abc.abstractmethod
    def read(self, x: Tensor, grid: Tensor, stride: Any, sides: Tensor) -> Tensor:
        """Decodes raw predictions.

        Args:
            x: float32 tensor of shape `(..., outputs)`.
            grid: Tensor of shape `(..., 2)`, column and row of each prediction's cell.
            stride: Side of a cell in pixels.
            sides: Tensor of shape `(..., 2)`, width and height of each prediction's anchor in
                pixels; of its cell if the head has no anchors.

        Returns:
            Tensor of shape `(..., 5 + classes)`: centre x and y, width and height in pixels,
            objectness (1 if the head has none), class probabilities.
        """

    @abc.abstractmethod
    def confidence(self, x: Tensor) -> Tensor:
        """Returns the confidence of each prediction's best class.

        Args:
            x: float32 tensor of shape `(predictions, outputs)`, raw predictions.

        Returns:
            Tensor of shape `(predictions, 1)`.
        """

    @property
    def name(self) -> str:
        """The name of the head, as in `YOLOV5SPD(head=...)`."""
        return self.loss_type.head

    def sides(self, level: str) -> Array:
        """Returns the sides of a level's anchors, or of its cells, of shape `(anchors, 2)`."""
        if not self.anchors:
            return np.full((1, 2), level_stride(level), "float32")
        return np.array(self.anchors[level], "float32")

    def decode(self, raw: Mapping[str, Tensor]) -> Tensor:
        """Decodes raw predictions of all levels, as `keras_spd.detection.decode` does."""
        return decode_levels(raw, {level: self.sides(level) for level in raw}, self.read)

    def loss(self, num_classes: int, bounding_box_format: str, **options: Any) -> DetectionLoss:
        """Returns the loss that fits the head.

        Args:
            num_classes: Integer.
            bounding_box_format: Format of the ground truth.
            **options: Further arguments of `loss_type`.

        Raises:
            ValueError: If the loss has no such argument.
        """
        known = {
            name
            for loss in (self.loss_type, DetectionLoss)
            for name in inspect.signature(loss).parameters
        }
        if unknown := sorted(set(options) - known):
            names = ", ".join(f"`{name}`" for name in unknown)
            raise ValueError(
                f"`{self.loss_type.__name__}`, the loss of head={self.name!r}, has no {names}. "
                f"Omit {names}."
            )
        anchors = self.anchors or None
        return self.loss_type(num_classes, bounding_box_format, anchors=anchors, **options)

    def check_loss(self, loss: Any, num_classes: int, bounding_box_format: str) -> None:
        """Raises a `ValueError` unless a loss fits the head, the classes and the box format."""
        if not isinstance(loss, self.loss_type):
            raise ValueError(
                f"`loss` must be a `keras_spd.detection.{self.loss_type.__name__}`, or `None` for "
                f"the one that fits the model. Received: loss={loss!r}."
            )
        if loss.num_classes != num_classes:
            raise ValueError(
                f"The model has {num_classes} classes, but the loss has num_classes="
                f"{loss.num_classes}. Pass the loss `num_classes={num_classes}`."
            )
        if loss.bounding_box_format != bounding_box_format:
            raise ValueError(
                f"The model's boxes are in {bounding_box_format!r}, but the loss has "
                f"bounding_box_format={loss.bounding_box_format!r}. Pass both the format of the "
                "ground truth."
            )
        if self.build(tuple(self.anchors), loss.anchors).anchors != self.anchors:
            raise ValueError(
                "The anchors of the loss differ from the model's. Pass it `anchors=model.anchors`, "
                "or call `compile` again if the model's were changed."
            )

    def recall(self, sides: Array) -> float:
        """Returns the fraction of boxes that some anchor matches; 1 if there are no anchors.

        Args:
            sides: Array of shape `(boxes, 2)`, widths and heights in pixels.
        """
        return 1.0

    def trained(self) -> Self:
        """Returns the head to use after training."""
        return self

    def get_config(self) -> dict[str, Any]:
        """Returns the name and the fields of the head, from which `find_head` builds it."""
        return {"name": self.name, **dataclasses.asdict(self)}
