"""The results of a detector or classifier for one image."""

import collections
import dataclasses
from typing import Any

import numpy as np

from keras_spd.boxes import intersection_over_union
from keras_spd.images.geometry import Letterbox
from keras_spd.typing import Array

# IoU above which boxes of different classes count as one object. A detector trained for 110 epochs
# on DeepPCB, whose classes look alike, gave such pairs at IoU >= 0.74 or <= 0.2 (24 images). True
# boxes of different classes overlap by at most 0.4 there.
_SAME_OBJECT = 0.7


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Objects in one image.

    Args:
        boxes: float32 array of shape `(detections, 4)`, xyxy in pixels of the original image.
        confidence: float32 array of shape `(detections,)`, highest first.
        classes: Integer array of shape `(detections,)`.
        class_names: One name for each class of the model; `None` if it has none.
        letterbox: `Letterbox`, how the image was resized and padded for the network.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...] | None
    letterbox: Letterbox

    def __len__(self) -> int:
        return len(self.boxes)

    def __str__(self) -> str:
        counts = collections.Counter(self.name(int(label)) for label in self.classes)
        kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        noun = "object" if len(self) == 1 else "objects"
        return f"{len(self)} {noun}" + (f": {kinds}" if kinds else "")

    def select(self, which: Array) -> "Detections":
        """Returns the detections at some indices, or where a boolean array is true."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[which],
            confidence=self.confidence[which],
            classes=self.classes[which],
        )

    def with_one_class_each(self) -> "Detections":
        """Drops boxes that report an object a second time, with another class.

        NMS within each class keeps such boxes. A box is dropped if its IoU with a more confident
        box of another class is above 0.7.

        Returns:
            `Detections` without these boxes, highest confidence first.
        """
        left = np.argsort(-self.confidence, kind="stable")
        kept = []
        while left.size:
            best, left = left[0], left[1:]
            kept.append(best)
            overlap = intersection_over_union(self.boxes[best], self.boxes[left], np)
            same = overlap > _SAME_OBJECT
            left = left[~(same & (self.classes[left] != self.classes[best]))]
        return self.select(np.array(kept, int))

    def name(self, label: int) -> str:
        """Returns the name of a class, or its number."""
        return self.class_names[label] if self.class_names else str(label)

    def to_json(self) -> list[dict[str, Any]]:
        """Returns a list of dictionaries with `box` (xyxy), `confidence`, `class` and `name`."""
        return [
            {
                "box": [round(float(side), 2) for side in box],
                "confidence": round(float(confidence), 5),
                "class": int(label),
                "name": self.name(int(label)),
            }
            for box, confidence, label in zip(
                self.boxes, self.confidence, self.classes, strict=True
            )
        ]


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """The most probable classes of one image.

    Args:
        confidence: float32 array of shape `(classes,)`, their probabilities, highest first.
        classes: Integer array of shape `(classes,)`.
        class_names: One name for each class of the model; `None` if it has none.
    """

    confidence: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.classes)

    def __str__(self) -> str:
        return ", ".join(f"{found['name']} {found['confidence']:.2f}" for found in self.to_json())

    def name(self, label: int) -> str:
        """Returns the name of a class, or its number."""
        return self.class_names[label] if self.class_names else str(label)

    def to_json(self) -> list[dict[str, Any]]:
        """Returns a list of dictionaries with `confidence`, `class` and `name`."""
        return [
            {
                "confidence": round(float(confidence), 5),
                "class": int(label),
                "name": self.name(int(label)),
            }
            for confidence, label in zip(self.confidence, self.classes, strict=True)
        ]
