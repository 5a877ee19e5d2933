"""The head of YOLOv5 and YOLOv5-SPD."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

from keras import ops

from keras_spd.detection.anchors import best_possible_recall, standardize_anchors
from keras_spd.detection.decoding import read_yolov5
from keras_spd.detection.heads.head import Head
from keras_spd.detection.losses import YOLOV5Loss
from keras_spd.typing import Array, Tensor


@dataclasses.dataclass(frozen=True)
class YOLOV5Head(Head):
    """The paper's head: boxes relative to anchors, objectness and classes.

    Args:
        anchors: `{level: ((width, height), ...)}` in pixels.
        single_class_logit: Boolean, whether the confidence of a detector with one class is
            objectness times class probability, as in the authors' code, or only objectness, as in
            YOLOv7. The loss does not train the class logit of a single class, so training turns
            this off. Loading weights with a trained class logit (the authors' files, or one class
            of a larger detector) turns it on. Ignored with several classes.
    """

    loss_type = YOLOV5Loss

    single_class_logit: bool = False

    @classmethod
    def build(cls, levels: Sequence[str], anchors: Any = None) -> Self:
        return cls(standardize_anchors(anchors, levels))

    def read(self, x: Tensor, grid: Tensor, stride: Any, sides: Tensor) -> Tensor:
        return read_yolov5(x, grid, stride, sides, class_logit=self.single_class_logit)

    def confidence(self, x: Tensor) -> Tensor:
        objectness = ops.sigmoid(x[:, 4:5])
        if x.shape[-1] == 6 and not self.single_class_logit:
            return objectness
        return ops.sigmoid(ops.max(x[:, 5:], axis=1, keepdims=True)) * objectness

    def recall(self, sides: Array) -> float:
        return best_possible_recall(sides, self.anchors)

    def trained(self) -> Self:
        return dataclasses.replace(self, single_class_logit=False)
