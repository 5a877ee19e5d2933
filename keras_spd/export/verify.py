"""Compares an exported file with the Keras model it was exported from."""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
import numpy as np

from keras_spd.boxes import convert_boxes, intersection_over_union
from keras_spd.detection.detector import Detector
from keras_spd.export.coarse import coarsest_layers
from keras_spd.export.quantization import ACTIVATION_BITS
from keras_spd.export.serving import from_network, to_network
from keras_spd.export.tflite_runtime import TFLiteFile

# NMS sees 1,000 candidates of an image in exported files and 30,000 in `Decoder`. At the low
# thresholds used for AP they differ in boxes of no practical interest, which are not compared.
_DOUBTFUL = 0.1


# Largest accepted difference (box pixels; probability) and smallest agreement, by quantization.
_DETECTOR = {
    None: (0.5, 0.99),
    "float16": (2.0, 0.97),
    "dynamic": (math.inf, 0.8),
    "int8": (math.inf, 0.8),
    "int16x8": (math.inf, 0.9),
}
_CLASSIFIER = {
    None: (1e-4, 0.99),
    "float16": (0.02, 0.95),
    "dynamic": (0.5, 0.8),
    "int8": (0.5, 0.8),
    "int16x8": (0.1, 0.95),
}


def accepted(quantization: str | None, is_detector: bool) -> tuple[float, float]:
    """Returns the `tolerance` and `agreement` for `verify_tflite`, by quantization."""
    return (_DETECTOR if is_detector else _CLASSIFIER)[quantization]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference between an exported file and its Keras model.

    Args:
        images: Number of images that both were run on.
        max_difference: Classifiers: largest absolute difference of a probability. Detectors:
            largest difference of a coordinate between matched boxes, in pixels.
        agreement: Classifiers: fraction of images, 0..1, with the same top class. Detectors:
            fraction of boxes of confidence 0.1 or more that both found, i.e. of the same class
            and with an IoU of 0.5 or more.
        compared: Number of images, or of boxes in both outputs. 0 boxes prove nothing.
    """

    images: int
    max_difference: float
    agreement: float
    compared: int

    @classmethod
    def of_classes(cls, expected: np.ndarray, received: np.ndarray) -> Self:
        """Compares the probabilities of two classifiers, arrays of shape `(images, classes)`.

        A single one is that of the second of two classes.
        """
        top = [p.argmax(-1) if p.shape[-1] > 1 else p[..., 0] > 0.5 for p in (received, expected)]
        return cls(
            images=len(expected),
            max_difference=float(np.abs(received - expected).max()),
            agreement=float((top[0] == top[1]).mean()),
            compared=len(expected),
        )

    def check(
        self, path: str | os.PathLike, model: keras.Model, tolerance: float, agreement: float
    ) -> Self:
        """Returns itself.

        Args:
            path: Path of the file, for the message.
            model: The Keras model, for the message.
            tolerance: Largest accepted `max_difference`.
            agreement: Smallest accepted `agreement`.

        Raises:
            DifferenceError: If the two differ by more.
        """
        # Written so that NaN fails.
        if not (self.max_difference <= tolerance and self.agreement >= agreement):
            if isinstance(model, Detector):
                same = f"of {self.compared} boxes in {self.images} images, both find"
                differ = f"coordinates differ by up to {self.max_difference:.3g} pixels"
            else:
                same = f"of {self.images} images, both give the same class to"
                differ = f"outputs differ by up to {self.max_difference:.3g}"
            limit = "" if math.isinf(tolerance) else f" (at most {tolerance:g} is accepted)"
            raise DifferenceError(
                f"{path} differs from `{model.name}`: {same} {self.agreement:.1%} "
                f"(at least {agreement:.0%} is accepted), and {differ}{limit}."
            )
        return self


class DifferenceError(ValueError):
    """An exported file that differs from its Keras model by more than is accepted."""


def _advice(file: TFLiteFile, image: np.ndarray) -> str:
    """Returns what to do about a quantised file that differs, or an empty string."""
    quantization = file.record.get("quantization")
    if quantization not in ACTIVATION_BITS:
        return ""
    layers = coarsest_layers(file.path, image)
    lost = ", ".join(f"{layer} ({noise:.1%})" for layer, noise in layers.items())
    lost = f" Layers that lose most (noise as a fraction of their values): {lost}." if lost else ""
    others = '"float16" or "dynamic"' if quantization == "int16x8" else '"int16x8" or "dynamic"'
    return (
        f" The file is kept, but do not use it before `keras-spd evaluate` shows that its scores "
        f"are good enough.{lost} Try calibration images like those that it will see, a network "
        f'that is fully trained, or {others} instead of "{quantization}".'
    )


def verify_tflite(
    path: str | os.PathLike,
    model: keras.Model,
    images: np.ndarray,
    *,
    tolerance: float | None = None,
    agreement: float | None = None,
) -> Comparison:
    """Runs a TFLite file and its Keras model on the same images, and compares the outputs.

    Every signature of the file that takes images of this size is run.

    Args:
        path: Path of the TFLite file.
        model: The Keras model it was exported from.
        images: Array of shape `(images, height, width, channels)`, pixels 0..255.
        tolerance: Largest accepted difference of an output; defaults to 1e-4, or 0.5 pixels for a
            detector.
        agreement: Smallest accepted agreement, 0..1; defaults to 0, or 0.99 for a detector.

    Returns:
        `Comparison`.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If the outputs differ by more than accepted.

    Example:

    >>> keras_spd.export.verify_tflite("model.tflite", model, images).max_difference
    """
    file = TFLiteFile(path)
    found = []
    for count in file.batch_sizes(np.shape(images)[1:3]):
        run = functools.partial(file, batch_sizes=[count])
        try:
            found.append(verify(path, model, images, run, tolerance, agreement))
        except DifferenceError as error:
            raise DifferenceError(f"{error}{_advice(file, np.asarray(images)[0])}") from None
    return Comparison(
        len(images),
        max(comparison.max_difference for comparison in found),
        min(comparison.agreement for comparison in found),
        min(comparison.compared for comparison in found),
    )


def verify(
    path: str | os.PathLike,
    model: keras.Model,
    images: np.ndarray,
    run: Callable[[np.ndarray], Mapping[str, Any]],
    tolerance: float | None,
    agreement: float | None,
) -> Comparison:
    """Compares a model with `run`, a function from a batch of pixels to the outputs of its file."""
    if isinstance(model, Detector):
        tolerance = 0.5 if tolerance is None else tolerance
        agreement = 0.99 if agreement is None else agreement
        return _compare_detections(run, model, images).check(path, model, tolerance, agreement)
    [received] = run(images).values()
    outputs = model.predict(to_network(model, images), verbose=0)
    expected = keras.ops.convert_to_numpy(from_network(model, outputs))
    tolerance = 1e-4 if tolerance is None else tolerance
    comparison = Comparison.of_classes(expected, received)
    return comparison.check(path, model, tolerance, agreement or 0.0)


def _compare_detections(
    run: Callable[[np.ndarray], Mapping[str, Any]], model: Detector, images: np.ndarray
) -> Comparison:
    """Matches the detections of `run` and of a `Detector`, best IoU first."""
    images = np.asarray(images, "float32")
    found = matched = 0
    difference = 0.0
    outputs = run(images)
    for index, image in enumerate(images):
        ours, theirs = (
            _rows(detections, row, model.bounding_box_format, image.shape[:2])
            for detections, row in (
                (model.predict_on_batch(to_network(model, image[None])), 0),
                (outputs, index),
            )
        )
        found += int(ours[2].sum() + theirs[2].sum())
        if not len(ours[0]) or not len(theirs[0]):
            continue
        overlaps = intersection_over_union(ours[0][:, None], theirs[0][None])
        overlaps = np.array(keras.ops.convert_to_numpy(overlaps))  # writable
        overlaps *= ours[1][:, None] == theirs[1][None]
        while overlaps.max() >= 0.5:
            row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
            overlaps[row], overlaps[:, column] = 0, 0
            count = int(ours[2][row]) + int(theirs[2][column])
            matched += count
            if count:
                apart = float(np.abs(ours[0][row] - theirs[0][column]).max())
                difference = max(difference, apart)
    return Comparison(len(images), difference, matched / found if found else 1.0, found)


def _rows(
    outputs: Mapping[str, Any], row: int, bounding_box_format: str, image_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the xyxy boxes in pixels and classes of one image, and a mask of those compared."""
    count = int(outputs["num_detections"][row])
    boxes, confidence, classes = (
        np.array(outputs[name][row][:count]) for name in ("boxes", "confidence", "classes")
    )
    boxes = convert_boxes(boxes, bounding_box_format, "xyxy", image_size)
    return keras.ops.convert_to_numpy(boxes), classes, confidence >= _DOUBTFUL


def run_tflite(path: str | os.PathLike, images: np.ndarray) -> np.ndarray:
    """Runs a TFLite file on any number of images and returns its first output.

    Args:
        path: Path of the file.
        images: Array of shape `(images, height, width, channels)`, pixels 0..255.

    Returns:
        Array with one entry for each image.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If the file cannot be read or does not take images of this size.

    Example:

    >>> keras_spd.export.run_tflite("classifier.tflite", images).shape
    (8, 10)
    """
    return next(iter(TFLiteFile(path)(images).values()))
