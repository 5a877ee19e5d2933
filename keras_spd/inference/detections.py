"""What was found in one image."""

import dataclasses

import numpy as np

from keras_spd.boxes import Letterbox


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Objects in one image.

    Args:
        boxes: float32 array of shape `(detections, 4)`, xyxy in pixels of the original image.
        confidence: float32 array of shape `(detections,)`, the highest first.
        classes: Integer array of shape `(detections,)`.
        class_names: One name for each class of the model; `None` if it has none.
        letterbox: `Letterbox`, how the image was put into the network.
    """

    boxes: np.ndarray
    confidence: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...] | None
    letterbox: Letterbox

    def __len__(self):
        return len(self.boxes)

    def __str__(self):
        return f"{len(self)} object{'s' * (len(self) != 1)}"

    def select(self, which):
        """Returns those at some indices, or where a boolean array is true."""
        return dataclasses.replace(
            self,
            boxes=self.boxes[which],
            confidence=self.confidence[which],
            classes=self.classes[which],
        )

    def name(self, label):
        """Returns the name of a class, or its number."""
        return self.class_names[label] if self.class_names else str(label)

    def to_json(self):
        """Returns a list of dictionaries with `box`, `confidence`, `class` and `name`."""
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
class Classes:
    """The most probable classes of one image.

    Args:
        confidence: float32 array of shape `(classes,)`, their probabilities, the highest first.
        classes: Integer array of shape `(classes,)`.
        class_names: One name for each class of the model; `None` if it has none.
    """

    confidence: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...] | None

    def __len__(self):
        return len(self.classes)

    def __str__(self):
        return ", ".join(f"{found['name']} {found['confidence']:.2f}" for found in self.to_json())

    def name(self, label):
        """Returns the name of a class, or its number."""
        return self.class_names[label] if self.class_names else str(label)

    def to_json(self):
        """Returns a list of dictionaries with `confidence`, `class` and `name`."""
        return [
            {
                "confidence": round(float(confidence), 5),
                "class": int(label),
                "name": self.name(int(label)),
            }
            for confidence, label in zip(self.confidence, self.classes, strict=True)
        ]
