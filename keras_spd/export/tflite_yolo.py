"""Runs TFLite files of YOLO detectors exported by other tools, such as Ultralytics."""

import logging
import pathlib

import numpy as np
from keras import ops

from keras_spd.detection import Decoder
from keras_spd.export.tflite_runtime import TFLiteFile
from keras_spd.image_model import ModelInfo
from keras_spd.images.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

# Strides of the pyramid levels: YOLOv5 and later, with P6, with P2, and tiny variants.
_LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
_ANCHORS = 3  # per cell in YOLOv5 and YOLOv7; YOLOv8 and later have no anchors


class TFLiteYOLO:
    """A YOLO file with one output of raw predictions; it implements `DetectorProtocol`.

    The meaning of the output follows from its shape and the image size:

    - `(1, predictions, 5 + classes)`: YOLOv5 and YOLOv7, three predictions per cell, each with
      centre (x, y), width, height, objectness and class probabilities.
    - `(1, 4 + classes, predictions)`: YOLOv8 and later, one prediction per cell, without
      objectness.

    Images are letterboxed and scaled to 0..1. Boxes may be in pixels or relative to the image
    size; the values of the centres show which. Class names are read from the metadata that
    Ultralytics' exporters append to the file.

    Args:
        file: `TFLiteFile`.

    Raises:
        ValueError: If the outputs have other shapes, or the metadata name another task than
            detection; the message says which.
    """

    bounding_box_format = "xyxy"
    stride = 1  # the file knows its sizes

    def __init__(self, file: TFLiteFile) -> None:
        self.file = file
        self.name = pathlib.Path(file.path).stem
        self.image_sizes = file.image_sizes
        task = file.foreign_record.get("task", "detect")
        if task != "detect":
            raise ValueError(
                f"{file.path} is a YOLO file for the task {task!r}. Only detectors can be used."
            )
        shapes = file.output_shapes
        layout = _layout(shapes[0], self.image_sizes[0]) if len(shapes) == 1 else None
        if layout is None:
            raise ValueError(
                f"{file.path} is neither a file that keras_spd exported nor a YOLO detector with "
                "one output of shape (1, predictions, 5 + classes) or (1, 4 + classes, "
                f"predictions). It takes images of {self.image_sizes[0]} and returns "
                f"{', '.join(map(str, shapes))}."
            )
        self.has_objectness, self.num_classes = layout
        self.info = ModelInfo(
            class_names=_class_names(file, self.num_classes),
            preprocessing=Preprocessing("letterbox", self.image_sizes[0], (0, 1)),
        )
        self.decoder = Decoder()

    def predict_on_batch(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the detection dictionary of `Detector.predict`, as arrays.

        Args:
            images: Array of shape `(images, height, width, 3)`, pixels scaled to 0..1.

        Returns:
            Dictionary of arrays, as in `DetectorProtocol`.
        """
        [raw] = self.file(images).values()
        if not self.has_objectness:
            raw = np.swapaxes(raw, 1, 2)
            raw = np.insert(raw, 4, 1, axis=2)
        boxes = raw[..., :4]
        if boxes[..., :2].max() <= 2:  # relative: in pixels, some centres would be far from 0
            height, width = np.shape(images)[1:3]
            boxes = boxes * np.array([width, height, width, height], "float32")
        decoded = np.concatenate([boxes, raw[..., 4:]], axis=2).astype("float32")
        found = self.decoder.suppress(ops.convert_to_tensor(decoded))
        return {name: ops.convert_to_numpy(value) for name, value in found.items()}


def _class_names(file: TFLiteFile, num_classes: int) -> tuple[str, ...] | None:
    """Returns the names in the file's own record, a list or a dictionary by number."""
    names = file.foreign_record.get("names")
    if isinstance(names, dict):
        by_number = {str(number): name for number, name in names.items()}
        names = [by_number.get(str(number)) for number in range(len(names))]
    if names is None:
        return None
    if (
        not isinstance(names, (list, tuple))
        or len(names) != num_classes
        or not all(isinstance(name, str) for name in names)
    ):
        _log.warning(
            "%s names its classes in a way that does not fit its %d outputs. They get numbers.",
            file.path,
            num_classes,
        )
        return None
    return tuple(names)


def _layout(shape: tuple[int, ...], image_size: tuple[int, int]) -> tuple[bool, int] | None:
    """Returns whether there is an objectness score, and the number of classes, or `None`."""
    if len(shape) != 3:
        return None
    for strides in _LEVELS:
        cells = sum((image_size[0] // stride) * (image_size[1] // stride) for stride in strides)
        if shape[1] == _ANCHORS * cells and shape[2] > 5:
            return True, shape[2] - 5
        if shape[2] == cells and shape[1] > 4:
            return False, shape[1] - 4
    return None
