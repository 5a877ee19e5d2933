"""A detector in a TFLite file, with the interface of `Detector` that prediction needs."""

import logging
import pathlib

import numpy as np

from keras_spd.applications.image_model import ModelInfo
from keras_spd.detection import Decoder

_log = logging.getLogger(__name__)


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
        from keras_spd.export.metadata import read_metadata

        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ImportError(
                "Running a TFLite file needs `pip install ai-edge-litert`."
            ) from error
        path = pathlib.Path(path)
        try:
            content = path.read_bytes()
            record = read_metadata(content) or {}
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except Exception as error:  # flatbuffers raise what struct and numpy raise
            raise ValueError(f"Cannot load a TFLite model from {path}: {error}") from error
        if "confidence_threshold" not in record:
            raise ValueError(f"{path} is not a detector that keras_spd exported.")
        self._run = self._interpreter.get_signature_runner()
        ((self._name, self._input),) = self._run.get_input_details().items()
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
        size = self._input["shape"][0]
        found = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            batch = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]))])
            if self._input["dtype"] == np.uint8:
                batch = np.clip(np.round(batch), 0, 255)
            found.append(self._run(**{self._name: batch.astype(self._input["dtype"])}))
        detections = {
            key: np.concatenate([part[key] for part in found])[: len(images)] for key in found[0]
        }
        confident = detections["confidence"] > self._decoder.confidence_threshold
        count = np.minimum(confident.sum(axis=1), self._decoder.max_detections)
        return detections | {"num_detections": count}
