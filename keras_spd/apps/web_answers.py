"""Computes the results that the web page shows."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from keras_spd.images import draw_detections
from keras_spd.images.read import read_image
from keras_spd.predict import Classifier, Predictor

_READABLE = 640  # pixels; smaller images are enlarged, so that names fit


def find_objects(
    predictors: dict[str, Predictor],
    image: str | os.PathLike | np.ndarray | None,
    confidence: float,
) -> list:
    """Finds objects with several predictors.

    Args:
        predictors: `Predictor` by the name of its model.
        image: Path, or uint8 array of shape `(height, width, 3)`; `None` for no image.
        confidence: Smallest confidence of a detection.

    Returns:
        List with three values for each predictor: a picture with boxes (uint8 array), a line of
        text, and `Detections.to_json()`, in pixels of the image. Without an image, `None`, `""`
        and `None`.

    Raises:
        ValueError: If the image cannot be read.
    """
    results: list = []
    for predictor in predictors.values():
        if image is None:
            results += [None, "", None]
            continue
        pixels = image if isinstance(image, np.ndarray) else _read(image, predictor.max_value)
        [found] = predictor([pixels])
        found = found.select(found.confidence >= confidence)
        zoom = max(_READABLE // max(pixels.shape), 1)
        shown = dataclasses.replace(found, boxes=found.boxes * zoom)
        pixels = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
        results += [
            np.asarray(draw_detections(pixels, shown)),
            str(found),
            found.to_json(),
        ]
    return results


def name_classes(
    classifiers: dict[str, Classifier], image: str | os.PathLike | np.ndarray | None
) -> list:
    """Returns the five most probable classes of each classifier, `{class name: probability}`.

    Args:
        classifiers: `Classifier` by the name of its model.
        image: Path, or uint8 array of shape `(height, width, 3)`; `None` for no image.

    Raises:
        ValueError: If the image cannot be read.
    """
    if image is None:
        return [None] * len(classifiers)
    found = []
    for classifier in classifiers.values():
        is_array = isinstance(image, np.ndarray)
        found += classifier([image if is_array else _read(image, classifier.max_value)])
    return [{entry["name"]: entry["confidence"] for entry in each.to_json()} for each in found]


def _read(path: Any, max_value: float | None) -> np.ndarray:
    # The user's file name; the folder is Gradio's.
    return read_image(path, name=pathlib.Path(path).name, max_value=max_value)
