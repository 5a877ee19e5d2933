"""The results of a detector or classifier for one image."""

import collections
import dataclasses
import importlib
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from PIL import Image

from keras_spd.boxes import intersection_over_union
from keras_spd.images.draw import draw_classes, draw_detections, save_picture
from keras_spd.images.geometry import Letterbox
from keras_spd.images.read import to_rgb
from keras_spd.typing import Array, Path

# IoU above which boxes of different classes count as one object. A detector trained for 110 epochs
# on DeepPCB, whose classes look alike, gave such pairs at IoU >= 0.74 or <= 0.2 (24 images). True
# boxes of different classes have an IoU of at most 0.4 there.
_SAME_OBJECT = 0.7


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class _Result:
    """What both kinds of results share: the image, and the names of classes."""

    image: Any = dataclasses.field(default=None, repr=False)
    path: str | None = None
    max_value: float | None = None

    def name(self, label: int) -> str:
        """Returns the name of a class, or its number."""
        names = self.class_names  # type: ignore[attr-defined]
        return names[label] if names else str(label)

    def with_image(self, image: Any, max_value: float | None) -> Self:
        """Returns the same result with its image."""
        path = str(image) if isinstance(image, (str, os.PathLike)) else self.path
        return dataclasses.replace(self, image=image, path=path, max_value=max_value)

    def read_image(self) -> Image.Image:
        """Reads the image.

        Returns:
            `PIL.Image.Image` of mode RGB, upright; a copy if an image in memory was passed.

        Raises:
            ValueError: If the result does not hold its image, or the file cannot be read.
        """
        if self.image is None:
            raise ValueError(
                "This result does not hold its image. Add it with `with_image(image, max_value)`."
            )
        return to_rgb(self.image, max_value=self.max_value).copy()


@dataclasses.dataclass(frozen=True, eq=False)
class Detections(_Result):
    """Objects in one image.

    Args:
        boxes: float32 array of shape `(detections, 4)`, xyxy in pixels of the original image.
        confidence: float32 array of shape `(detections,)`, highest first.
        classes: Integer array of shape `(detections,)`.
        class_names: One name for each class of the model; `None` if it has none.
        letterbox: `Letterbox`, how the image was resized and padded for the network.
        image: The image as it was passed to the `Predictor`: a path, bytes, a Pillow image or an
            array.
        path: Path of the image's or video's file, as a string; `None` if the image is not a file.
        max_value: As in `keras_spd.images.to_rgb`, for images with more than 8 bits.

    Example:

    >>> [found] = keras_spd.Predictor("bccd")("cells.png")
    >>> found.save("found.png")
    >>> found.to_pandas().query("name == 'RBC'")
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

    @property
    def image_size_hw(self) -> tuple[int, int]:
        """Height and width of the image, in pixels."""
        return self.letterbox.image_size_hw

    def plot(self, image: Any = None, *, labels: bool = True) -> Image.Image:
        """Draws the boxes on the image.

        Args:
            image: The image to draw on, if it is not the one that was passed to the `Predictor`;
                any image that `keras_spd.images.to_rgb` accepts. It is not changed.
            labels: Boolean, whether to write class names and confidences.

        Returns:
            `PIL.Image.Image` of the size of the image.

        Raises:
            ValueError: If there is no image, it cannot be read, or its size differs.
        """
        if image is None:
            picture = self.read_image()
        else:
            picture = to_rgb(image, max_value=self.max_value).copy()
        if picture.size[::-1] != self.image_size_hw:
            raise ValueError(
                f"The detections are of an image of {self.image_size_hw} pixels (height, width). "
                f"Received: an image of {picture.size[::-1]}."
            )
        return draw_detections(picture, self, labels=labels)

    def save(self, path: Path, *, labels: bool = True) -> None:
        """Writes the image with its boxes to a file.

        Args:
            path: Path of the file; its suffix is the format, such as `.png` or `.jpg`.
            labels: As in `plot`.

        Raises:
            ValueError: As in `plot`.
        """
        save_picture(self.plot(labels=labels), path)

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

    def to_coco(
        self, image_id: int, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """Converts the detections to COCO results, as pycocotools takes them.

        Args:
            image_id: Integer, the image's id in the annotations.
            category_ids: List of integers, the id of each class in the annotations, as in
                `DetectionData.category_ids`; 1, 2, 3, ... by default.

        Returns:
            List of `{"image_id", "category_id", "bbox", "score"}`, with xywh boxes in pixels.
        """
        return [
            {
                "image_id": image_id,
                "category_id": label + 1 if category_ids is None else category_ids[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": confidence,
            }
            for (x1, y1, x2, y2), confidence, label in zip(
                self.boxes.tolist(), self.confidence.tolist(), self.classes.tolist(), strict=True
            )
        ]

    def to_yolo(self, *, confidence: bool = False) -> str:
        """Converts the detections to the text of a YOLO label file.

        Args:
            confidence: Boolean, whether lines end with the confidence. Label files for training
                have none.

        Returns:
            String with a line for each object: class, centre x and y, width and height as
            fractions of the image.
        """
        height, width = self.image_size_hw
        x1, y1, x2, y2 = self.boxes.T
        columns = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height]
        columns += [(x2 - x1) / width, (y2 - y1) / height]
        columns += [self.confidence] if confidence else []
        lines = [
            " ".join([str(int(label)), *(f"{number:.6f}" for number in row)])
            for label, row in zip(self.classes, np.stack(columns, axis=1), strict=True)
        ]
        return "".join(f"{line}\n" for line in lines)

    def to_pandas(self) -> Any:
        """Returns a pandas `DataFrame`: file, x1, y1, x2, y2 in pixels, confidence, class, name.

        Raises:
            ImportError: If pandas is not installed.
        """
        pandas = _import("pandas")
        columns = {"file": [self.path] * len(self)}
        columns |= zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True)
        names = [self.name(int(label)) for label in self.classes]
        return pandas.DataFrame(
            columns | {"confidence": self.confidence, "class": self.classes, "name": names}
        )

    def to_supervision(self) -> Any:
        """Returns `supervision.Detections`, for its annotators, trackers, zones and metrics.

        Raises:
            ImportError: If supervision is not installed.
        """
        supervision = _import("supervision")
        names = [self.name(int(label)) for label in self.classes]
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.confidence,
            class_id=self.classes.astype("int64"),
            data={"class_name": np.array(names, str)},
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Classification(_Result):
    """The most probable classes of one image.

    Args:
        confidence: float32 array of shape `(classes,)`, their probabilities, highest first.
        classes: Integer array of shape `(classes,)`.
        class_names: One name for each class of the model; `None` if it has none.
        image, path, max_value: As in `Detections`.
    """

    confidence: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.classes)

    def plot(self) -> Image.Image:
        """Returns a Pillow image: the image with its classes and their confidences below."""
        return draw_classes(self.read_image(), self)

    def save(self, path: Path) -> None:
        """Writes the picture of `plot` to a file, in the format of its suffix."""
        save_picture(self.plot(), path)

    def __str__(self) -> str:
        return ", ".join(f"{found['name']} {found['confidence']:.2f}" for found in self.to_json())

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


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"This needs {package}: `pip install {package}`.") from error
