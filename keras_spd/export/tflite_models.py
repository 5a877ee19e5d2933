"""TFLite files of `keras-spd export`, with the interface of models that prediction needs."""

import logging
import os
from typing import Any

import numpy as np

from keras_spd.detection import Decoder
from keras_spd.export.tflite_runtime import TFLiteFile
from keras_spd.export.tflite_yolo import TFLiteYOLO
from keras_spd.image_model import ModelInfo
from keras_spd.images.preprocessing import Preprocessing

_log = logging.getLogger(__name__)


class TFLiteDetector:
    """A detector's file of `keras_spd.export.export_tflite`.

    Args:
        file: `TFLiteFile`, or its path.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If the file is not a TFLite file of a detector of this library.
    """

    def __init__(self, file: TFLiteFile | str | os.PathLike) -> None:
        self.file, record = _open(file)
        if "confidence_threshold" not in record:
            raise ValueError(f"{self.file.path} is not a detector that keras_spd exported.")
        self.name = record["name"]
        self.num_classes = record["num_classes"]
        self.bounding_box_format = record["bounding_box_format"]
        self.image_sizes = self.file.image_sizes
        self.stride = 1  # the file knows its sizes
        self.info = ModelInfo(
            class_names=_class_names(record),
            preprocessing=Preprocessing(
                "letterbox", self.image_sizes[0], (0, 255), max_value=record.get("max_value")
            ),
        )
        self._inside = self._decoder = Decoder(
            record["confidence_threshold"], record["iou_threshold"], record["max_detections"]
        )

    @property
    def decoder(self) -> Decoder:
        """The thresholds. Those in the file are fixed: one can only ask for fewer detections."""
        return self._decoder

    @decoder.setter
    def decoder(self, decoder: Decoder) -> None:
        inside = self._inside
        if (
            decoder.iou_threshold != inside.iou_threshold
            or decoder.confidence_threshold < inside.confidence_threshold
        ):
            _log.warning(
                "The TFLite file finds boxes with the thresholds it was exported with, confidence "
                "%g and IoU %g, and not with %g and %g, which change its scores (AP). For these, "
                "export it with `--confidence %g --iou %g`.",
                inside.confidence_threshold,
                inside.iou_threshold,
                decoder.confidence_threshold,
                decoder.iou_threshold,
                decoder.confidence_threshold,
                decoder.iou_threshold,
            )
        self._decoder = decoder

    def predict_on_batch(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the detection dictionary of `Detector.predict`, as arrays."""
        detections = self.file(images)
        confident = detections["confidence"] > self._decoder.confidence_threshold
        count = np.minimum(confident.sum(axis=1), self._decoder.max_detections)
        return detections | {"num_detections": count}


class TFLiteClassifier:
    """A classifier's file of `keras_spd.export.export_tflite`.

    Args:
        file: `TFLiteFile`, or its path.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If the file is not a TFLite file of a classifier that takes pixels.
    """

    def __init__(self, file: TFLiteFile | str | os.PathLike) -> None:
        self.file, record = _open(file)
        if not record.get("takes_pixels") or "confidence_threshold" in record:
            raise ValueError(
                f"{self.file.path} is not a classifier that keras_spd exported, or does not know "
                "how its inputs are normalised."
            )
        self.name = record["name"]
        self.image_sizes = self.file.image_sizes
        sides = self.image_sizes[0] if len(self.image_sizes) == 1 else (None, None)
        self.input_shape = (None, *sides, 3)
        runner = next(iter(self.file.runners.values()))
        ((self._output, details),) = runner.get_output_details().items()
        self.output_shape = (None, *map(int, details["shape"][1:]))
        # It normalises pixels, and makes probabilities of logits, inside.
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
        """Returns an array of shape `(batch, classes)`."""
        return self.file(images)[self._output]


def load_tflite(path: str | os.PathLike) -> "TFLiteDetector | TFLiteYOLO | TFLiteClassifier":
    """Loads a TFLite file by what `keras-spd export` noted in it, else as one of a YOLO detector.

    Args:
        path: Path of the file.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If the file is damaged, or neither of this library nor of a YOLO detector.
    """
    file = TFLiteFile(path)
    if not file.record:
        return TFLiteYOLO(file)
    return (TFLiteDetector if "confidence_threshold" in file.record else TFLiteClassifier)(file)


def _open(file: TFLiteFile | str | os.PathLike) -> tuple[TFLiteFile, dict[str, Any]]:
    file = file if isinstance(file, TFLiteFile) else TFLiteFile(file)
    return file, file.record


def _class_names(record: dict[str, Any]) -> tuple[str, ...] | None:
    return tuple(record["class_names"]) if record.get("class_names") else None
