"""Runs files of YOLO detectors exported by other tools, such as Ultralytics."""

import logging
import pathlib

import numpy as np
from keras import ops

from keras_spd.detection import Decoder
from keras_spd.export.onnx_runtime import ONNXFile
from keras_spd.export.tflite_runtime import TFLiteFile
from keras_spd.image_model import ModelInfo
from keras_spd.images.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

# Strides of the pyramid levels: YOLOv5 and later, with P6, with P2, and tiny variants.
_LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
_ANCHORS = 3  # per cell in YOLOv5 and YOLOv7; YOLOv8 and later have no anchors


class YOLOFile:
    """A YOLO file with one output of raw predictions; it implements `DetectorProtocol`.

    The meaning of the output follows from its shape and the image size:

    - `(1, predictions, 5 + classes)`: YOLOv5 and YOLOv7, three predictions per cell, each with
      centre (x, y), width, height, objectness and class probabilities.
    - `(1, 4 + classes, predictions)`: YOLOv8 and later, one prediction per cell, without
      objectness.
    - `(1, detections, 6)`: YOLOv10, YOLO26 and files exported with NMS, each with corners (x, y,
      x, y), confidence and class. The number of classes is that of the names in the metadata.
      NMS is in the file, so `iou_threshold` has no effect.

    Images are letterboxed and scaled to 0..1. Boxes may be in pixels or relative to the image
    size; the values of the centres show which. Class names are read from the metadata that
    Ultralytics' exporters append to the file.

    Args:
        file: `TFLiteFile` or `ONNXFile`.

    Raises:
        ValueError: If the outputs have other shapes, or the metadata name another task than
            detection; the message says which.
    """

    bounding_box_format = "xyxy"
    stride = 1  # no limit: `image_sizes` lists the accepted sizes

    def __init__(self, file: TFLiteFile | ONNXFile) -> None:
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
                "one output of shape (1, predictions, 5 + classes), (1, 4 + classes, predictions) "
                f"or (1, detections, 6). It takes images of {self.image_sizes[0]} and returns "
                f"{', '.join(map(str, shapes))}."
            )
        self.layout, self.num_classes = layout
        if self.layout == "boxes":
            self.num_classes = len(file.foreign_record.get("names") or ())
            if not self.num_classes:
                raise ValueError(
                    f"{file.path} returns boxes with class numbers, but has no metadata with class "
                    "names. Export it again with Ultralytics, which writes them."
                )
        input_range = (0, 255) if file.takes_bytes else (0, 1)
        self.info = ModelInfo(
            class_names=_class_names(file, self.num_classes),
            preprocessing=Preprocessing("letterbox", self.image_sizes[0], input_range),
        )
        self.decoder = Decoder()

    def predict_on_batch(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the detection dictionary of `Detector.predict`, as arrays.

        Args:
            images: Array of shape `(images, height, width, 3)`, pixels scaled to 0..1, or 0..255
                if the file takes bytes.

        Returns:
            Dictionary of arrays, as in `DetectorProtocol`.
        """
        [raw] = self.file(images).values()
        if self.layout == "cells":
            raw = np.swapaxes(raw, 1, 2)
            raw = np.insert(raw, 4, 1, axis=2)
        boxes = raw[..., :4]
        corners = self.layout == "boxes"  # padded with zeros; otherwise centres of all cells
        if (boxes if corners else boxes[..., :2]).max() <= 2:  # relative: pixels are far from 0
            height, width = np.shape(images)[1:3]
            boxes = boxes * np.array([width, height, width, height], "float32")
        if self.layout == "boxes":
            return self._most_confident(boxes, raw[..., 4], raw[..., 5])
        decoded = np.concatenate([boxes, raw[..., 4:]], axis=2).astype("float32")
        found = self.decoder.suppress(ops.convert_to_tensor(decoded))
        return {name: ops.convert_to_numpy(value) for name, value in found.items()}

    def _most_confident(
        self, boxes: np.ndarray, confidence: np.ndarray, classes: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns the detection dictionary of boxes that NMS has already seen."""
        order = np.argsort(-confidence, axis=1, kind="stable")[:, : self.decoder.max_detections]
        boxes = np.take_along_axis(boxes, order[..., None], axis=1)
        confidence, classes = (
            np.take_along_axis(values, order, axis=1) for values in (confidence, classes)
        )
        return {
            "boxes": boxes.astype("float32"),
            "confidence": confidence.astype("float32"),
            "classes": classes.round().astype("int32"),
            "num_detections": (confidence > self.decoder.confidence_threshold).sum(axis=1),
        }


def _class_names(file: TFLiteFile | ONNXFile, num_classes: int) -> tuple[str, ...] | None:
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
            "The class names in %s do not fit its %d outputs. Classes are shown as numbers.",
            file.path,
            num_classes,
        )
        return None
    return tuple(names)


def _layout(shape: tuple[int, ...], image_size: tuple[int, int]) -> tuple[str, int] | None:
    """Returns the meaning of an output, and the number of classes if its shape has it.

    `"anchors"` (YOLOv5), `"cells"` (YOLOv8) or `"boxes"` (after NMS), or `None`.
    """
    if len(shape) != 3:
        return None
    for strides in _LEVELS:
        cells = sum((image_size[0] // stride) * (image_size[1] // stride) for stride in strides)
        if shape[1] == _ANCHORS * cells and shape[2] > 5:
            return "anchors", shape[2] - 5
        if shape[2] == cells and shape[1] > 4:
            return "cells", shape[1] - 4
    return ("boxes", 0) if shape[2] == 6 else None
