"""What prediction and evaluation need of a detector, whether Keras runs it or LiteRT."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras_spd.detection.decoding import Decoder
from keras_spd.image_model import ModelInfo


@runtime_checkable
class DetectorProtocol(Protocol):
    """The interface that `Detector` and `keras_spd.export.TFLiteDetector` share.

    `Predictor` and `keras_spd.evaluate` use nothing else of a detector, so any object that has all
    this works with them.
    """

    info: ModelInfo
    """Class names, and how images become what the detector takes."""
    decoder: Decoder
    """The thresholds. Assigning other ones changes the next predictions."""
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
        """What height and width of its images must be multiples of."""

    @property
    def image_sizes(self) -> tuple[tuple[int, int], ...] | None:
        """Each `(height, width)` that it takes; `None` if it takes any."""

    def predict_on_batch(self, x: np.ndarray) -> Mapping[str, Any]:
        """Finds objects in a batch of images, which are preprocessed as `info` says.

        Args:
            x: Array of shape `(images, height, width, 3)`.

        Returns:
            keras-cv's detection dictionary: `boxes` `(images, detections, 4)`, `confidence` and
            `classes` `(images, detections)`, `num_detections` `(images,)`; best first.
        """


def check_detector(model: Any) -> DetectorProtocol:
    """Returns `model`, or raises a `ValueError` unless it follows `DetectorProtocol`."""
    if not isinstance(model, DetectorProtocol):
        raise ValueError(
            "A detector is needed: a `keras_spd.applications.Detector`, such as `YOLOV5SPD` "
            "builds, or the path of a `.keras` or `.tflite` file of one. "
            f"Received: {getattr(model, 'name', model)!r}, a {type(model).__name__}."
        )
    return model
