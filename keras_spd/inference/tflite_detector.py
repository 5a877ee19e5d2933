"""TFLite files of `keras-spd export`, with the interface of models that prediction needs."""

import logging
import pathlib

import numpy as np

from keras_spd.applications.image_model import ModelInfo
from keras_spd.detection import Decoder

_log = logging.getLogger(__name__)


def open_tflite(path, threads):
    """Returns the record in a TFLite file, and the runner of its signature.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If it is not a TFLite file.
    """
    from keras_spd.export.metadata import read_metadata

    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError("Running a TFLite file needs `pip install ai-edge-litert`.") from error
    try:
        content = pathlib.Path(path).read_bytes()
        record = read_metadata(content) or {}
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        return record, interpreter.get_signature_runner()
    except Exception as error:  # flatbuffers raise what struct and numpy raise
        raise ValueError(f"Cannot load a TFLite model from {path}: {error}") from error


def run_batches(run, images):
    """Runs as many images as there are on a file that takes a fixed number at once.

    Args:
        run: Runner of `open_tflite`.
        images: Array of shape `(batch, height, width, 3)`, pixels 0..255.

    Returns:
        Dictionary of arrays, the file's outputs.
    """
    ((name, details),) = run.get_input_details().items()
    size = details["shape"][0]
    found = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        batch = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]))])
        if details["dtype"] == np.uint8:
            batch = np.clip(np.round(batch), 0, 255)
        found.append(run(**{name: batch.astype(details["dtype"])}))
    return {key: np.concatenate([part[key] for part in found])[: len(images)] for key in found[0]}


class TFLiteDetector:
    """Runs a file of `keras_spd.export.export_tflite` with the LiteRT interpreter.

    Args:
        path: Path of the file.
        threads: Integer, CPU threads.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If the file is not a TFLite file of a detector of this library.
    """

    def __init__(self, path, threads=2):
        record, self._run = open_tflite(path, threads)
        if "confidence_threshold" not in record:
            raise ValueError(f"{path} is not a detector that keras_spd exported.")
        self.name = record["name"]
        self.num_classes = record["num_classes"]
        self.bounding_box_format = record["bounding_box_format"]
        self.fixed_image_size = tuple(record["image_size"])
        self.stride = 1  # the file has one size
        names = record["class_names"]
        self.info = ModelInfo(
            class_names=tuple(names) if names else None, image_size=self.fixed_image_size
        )
        self._inside = self._decoder = Decoder(
            record["confidence_threshold"], record["iou_threshold"], record["max_detections"]
        )

    @property
    def decoder(self):
        """The thresholds. The file's own stay as they are: fewer detections can be asked for."""
        return self._decoder

    @decoder.setter
    def decoder(self, decoder):
        inside = self._inside
        if (
            decoder.iou_threshold != inside.iou_threshold
            or decoder.confidence_threshold < inside.confidence_threshold
        ):
            _log.warning(
                "The TFLite file finds boxes with the thresholds it was exported with, confidence "
                "%g and IoU %g, and not with %g and %g.",
                inside.confidence_threshold,
                inside.iou_threshold,
                decoder.confidence_threshold,
                decoder.iou_threshold,
            )
        self._decoder = decoder

    def predict_on_batch(self, images):
        """Returns the detection dictionary of `Detector.predict`, as arrays."""
        detections = run_batches(self._run, images)
        confident = detections["confidence"] > self._decoder.confidence_threshold
        count = np.minimum(confident.sum(axis=1), self._decoder.max_detections)
        return detections | {"num_detections": count}


class TFLiteClassifier:
    """Runs a classifier's file of `keras_spd.export.export_tflite` with the LiteRT interpreter.

    Args:
        path: Path of the file.
        threads: Integer, CPU threads.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If the file is not a TFLite file of a classifier that takes pixels.
    """

    def __init__(self, path, threads=2):
        record, self._run = open_tflite(path, threads)
        if not record.get("takes_pixels") or "confidence_threshold" in record:
            raise ValueError(
                f"{path} is not a classifier that keras_spd exported, or does not know how its "
                "inputs are normalised."
            )
        self.name = record["name"]
        ((_, details),) = self._run.get_input_details().items()
        _, height, width, channels = map(int, details["shape"])
        self.input_shape = (None, height, width, channels)
        ((self._output, details),) = self._run.get_output_details().items()
        self.output_shape = (None, *map(int, details["shape"][1:]))
        names = record.get("class_names")
        # Pixels are what it takes, so that there are no statistics to normalise with.
        self.info = ModelInfo(
            class_names=tuple(names) if names else None, image_size=(height, width)
        )

    def predict_on_batch(self, images):
        """Returns an array of shape `(batch, classes)`."""
        return run_batches(self._run, images)[self._output]


def load_tflite(path):
    """Returns the `TFLiteDetector` or the `TFLiteClassifier` of a file, by what is noted in it."""
    record, _ = open_tflite(path, threads=1)
    return (TFLiteDetector if "confidence_threshold" in record else TFLiteClassifier)(path)
