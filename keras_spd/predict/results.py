"""What was found in one image."""

import dataclasses

import numpy as np

from keras_spd.boxes import intersection_over_union
from keras_spd.images.geometry import Letterbox

# IoU above which boxes of different classes are taken for one object. Detectors whose classes look
# alike give such pairs at 0.74 and more, and none between that and 0.2 (24 images of DeepPCB, a
# model after 110 epochs); of its true boxes no two of different classes overlap by more than 0.4.
_SAME_OBJECT = 0.7


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

    def with_one_class_each(self):
        """Returns them without boxes that give an object a second class.

        Those are the boxes that overlap a more confident one of another class by an IoU of more
        than 0.7, which suppression within the classes has left.
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
