"""Wraps TFLite and ONNX files so that prediction can use them like models."""

import logging
import os
import pathlib
from typing import Any

import numpy as np

from keras_spd.detection import Decoder
from keras_spd.export.onnx_runtime import ONNXFile
from keras_spd.export.tflite_runtime import TFLiteFile
from keras_spd.export.yolo_files import YOLOFile
from keras_spd.image_model import ModelInfo
from keras_spd.images.preprocessing import Preprocessing

_log = logging.getLogger(__name__)


class ExportedDetector:
    """A detector exported with `export_tflite` or `export_onnx`.

    Args:
        file: `TFLiteFile` or `ONNXFile`, or its path.

    Raises:
        ImportError: If the file's runtime is not installed.
        ValueError: If the file is not a detector exported by this library.

    Example:

    >>> found = keras_spd.Predictor(ExportedDetector("detector.tflite"))("street.jpg")
    """

    def __init__(self, file: TFLiteFile | ONNXFile | str | os.PathLike) -> None:
        self.file, record = _open(file)
        if "confidence_threshold" not in record:
            raise ValueError(f"{self.file.path} is not a detector that keras_spd exported.")
        self.name = record["name"]
        self.num_classes = record["num_classes"]
        self.bounding_box_format = record["bounding_box_format"]
        self.image_sizes = self.file.image_sizes
        self.stride = 1  # no limit: `image_sizes` lists the accepted sizes
        self.info = ModelInfo(
            class_names=_class_names(record),
            preprocessing=Preprocessing(
                "letterbox",
                self.image_sizes[0],
                (0, 255),
                max_value=record.get("max_value"),
                tile=record.get("tile"),
            ),
        )
        self._inside = self._decoder = Decoder(
            record["confidence_threshold"],
            record["iou_threshold"],
            record["max_detections"],
            # Absent in files of earlier versions.
            multi_label=record.get("multi_label", True),
            class_agnostic=record.get("class_agnostic", False),
        )

    @property
    def decoder(self) -> Decoder:
        """The NMS thresholds. Those in the file are fixed and can only be made stricter."""
        return self._decoder

    @decoder.setter
    def decoder(self, decoder: Decoder) -> None:
        inside = self._inside
        if (
            decoder.iou_threshold != inside.iou_threshold
            or decoder.confidence_threshold < inside.confidence_threshold
        ):
            _log.warning(
                "An exported file keeps the thresholds it was exported with, confidence %g and IoU "
                "%g, so boxes and AP differ from those at %g and %g. To change them, export the "
                "model again with `--confidence %g --iou %g`.",
                *(inside.confidence_threshold, inside.iou_threshold),
                *(decoder.confidence_threshold, decoder.iou_threshold) * 2,
            )
        if (decoder.class_agnostic, decoder.multi_label) != (
            inside.class_agnostic,
            inside.multi_label,
        ):
            _log.warning(
                "An exported file keeps the `class_agnostic` and `multi_label` it was exported "
                "with. To change them, export the model again."
            )
        if decoder.max_detections > inside.max_detections:
            _log.warning(
                "An exported file returns at most as many boxes per image as it was exported with, "
                "%d. Received: max_detections=%d.",
                inside.max_detections,
                decoder.max_detections,
            )
        self._decoder = decoder

    def predict_on_batch(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the detection dictionary of `Detector.predict`, as arrays.

        Args:
            images: Array of shape `(images, height, width, 3)`, pixels 0..255.
        """
        detections = self.file(images)
        confident = detections["confidence"] > self._decoder.confidence_threshold
        count = np.minimum(confident.sum(axis=1), self._decoder.max_detections)
        return detections | {"num_detections": count}


class ExportedClassifier:
    """A classifier exported with `export_tflite` or `export_onnx`.

    Args:
        file: `TFLiteFile` or `ONNXFile`, or its path.

    Raises:
        ImportError: If the file's runtime is not installed.
        ValueError: If the file is not a classifier exported by this library that takes pixels.

    Example:

    >>> found = keras_spd.predict.Classifier(ExportedClassifier("classifier.tflite"))("cell.png")
    """

    def __init__(self, file: TFLiteFile | ONNXFile | str | os.PathLike) -> None:
        self.file, record = _open(file)
        if not record.get("takes_pixels") or "confidence_threshold" in record:
            raise ValueError(
                f"{self.file.path} is not a classifier that keras_spd exported, or does not record "
                "how its inputs are normalised."
            )
        self.name = record["name"]
        self.image_sizes = self.file.image_sizes
        sides = self.image_sizes[0] if len(self.image_sizes) == 1 else (None, None)
        self.input_shape = (None, *sides, self.file.channels)
        [shape] = self.file.output_shapes
        self.output_shape = (None, *shape[1:])
        # The file itself normalises pixels and turns logits into probabilities.
        self.info = ModelInfo(
            class_names=_class_names(record),
            preprocessing=Preprocessing(
                record.get("resize", "stretch"),
                size=self.image_sizes[0],
                input_range=(0, 255),
                outputs="probabilities",
                max_value=record.get("max_value"),
            ),
        )

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities of shape `(images, classes)`.

        Args:
            images: Array of shape `(images, height, width, 3)`, pixels 0..255.
        """
        [probabilities] = self.file(images).values()
        return probabilities


def load_exported(path: str | os.PathLike) -> "ExportedDetector | YOLOFile | ExportedClassifier":
    """Loads a file exported by this library, or by another tool from a YOLO detector.

    Args:
        path: Path of a `.tflite` or `.onnx` file.

    Returns:
        `ExportedDetector`, `ExportedClassifier` or `YOLOFile`.

    Raises:
        ImportError: If the file's runtime is not installed.
        ValueError: If the file is damaged, or is neither from this library nor a YOLO detector.
    """
    file = _load_file(path)
    if not file.record:
        return YOLOFile(file)
    return (ExportedDetector if "confidence_threshold" in file.record else ExportedClassifier)(file)


RUNTIMES: dict[str, Any] = {".tflite": TFLiteFile, ".onnx": ONNXFile}  # by suffix


def _load_file(path: str | os.PathLike) -> Any:
    """Loads a file with the runtime for its suffix."""
    runtime = RUNTIMES.get(pathlib.Path(path).suffix)
    if runtime is None:
        raise ValueError(f"An exported file ends in {' or '.join(RUNTIMES)}. Received: {path}.")
    return runtime(path)


def _open(file: Any) -> tuple[Any, dict[str, Any]]:
    if isinstance(file, (str, os.PathLike)):
        file = _load_file(file)
    return file, file.record


def _class_names(record: dict[str, Any]) -> tuple[str, ...] | None:
    return tuple(record["class_names"]) if record.get("class_names") else None
