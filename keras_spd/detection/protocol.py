"""The interface of detectors for prediction and evaluation: Keras models and exported files."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras_spd.detection.decoding import Decoder
from keras_spd.image_model import ModelInfo


@runtime_checkable
class DetectorProtocol(Protocol):
    """The interface that `Detector` and `keras_spd.export`'s `ExportedDetector` share.

    `Predictor` and `keras_spd.evaluate` use nothing else, so they work with any object that
    implements it.
    """

    info: ModelInfo
    """Class names and preprocessing."""
    decoder: Decoder
    """The NMS thresholds. Assign another `Decoder` to change later predictions."""
    bounding_box_format: str
    """Format of the boxes that `predict_on_batch` returns."""

    @property
    def name(self) -> str:
        """Name of the model, for messages."""

    @property
    def num_classes(self) -> int:
        """The number of classes."""

    @property
    def stride(self) -> int:
        """The largest stride: height and width of images must be multiples of it."""

    @property
    def image_sizes(self) -> tuple[tuple[int, int], ...] | None:
        """The accepted sizes, each `(height, width)` in pixels; `None` if any size is accepted."""

    def predict_on_batch(self, x: np.ndarray) -> Mapping[str, Any]:
        """Finds objects in a batch of images that are preprocessed as `info` describes.

        Args:
            x: Array of shape `(images, height, width, 3)`.

        Returns:
            keras-cv's detection dictionary, most confident first: `boxes`
            `(images, detections, 4)`, `confidence` and `classes` `(images, detections)`, and
            `num_detections` `(images,)`.
        """


def check_detector(model: Any) -> DetectorProtocol:
    """Returns `model` if it implements `DetectorProtocol`; otherwise raises a `ValueError`."""
    if not isinstance(model, DetectorProtocol):
        raise ValueError(
            "A detector is needed: a `keras_spd.applications.Detector`, e.g. from `YOLOV5SPD`, or "
            "the path of a detector's `.keras`, `.pt`, `.tflite` or `.onnx` file. "
            f"Received: {getattr(model, 'name', model)!r}, of type {type(model).__name__}."
        )
    return model
