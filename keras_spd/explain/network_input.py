"""Prepares one image for a network, and predicts its classes."""

import dataclasses
import weakref
from typing import Any

import keras
import numpy as np

from keras_spd.applications import Detector
from keras_spd.detection.image_size import check_image_sides, standardize_image_size
from keras_spd.explain.activations import to_numpy
from keras_spd.image_model import find_info, known_preprocessing
from keras_spd.images.geometry import Letterbox
from keras_spd.images.read import to_array, to_rgb
from keras_spd.images.tiles import warn_of_missing_tile
from keras_spd.surgery.graph import check_graph
from keras_spd.surgery.outputs import to_probabilities
from keras_spd.typing import Array, Path

_warned: weakref.WeakSet[Detector] = weakref.WeakSet()  # of a missing tile, once for each model


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkInput:
    """One image and the network that takes it.

    Args:
        network: Functional or Sequential model; for a detector, the network inside it.
        batch: float32 array of shape `(1, height, width, channels)`, the input of the network.
        pixels: uint8 array of shape `(height, width, 3)`, the same image for display.
        original: uint8 array, the image before it was resized.
        fit: `Letterbox` from the original to the pixels; `None` if the image was stretched.
    """

    network: keras.Model
    batch: np.ndarray
    pixels: np.ndarray
    original: np.ndarray
    fit: Letterbox | None = None


def prepare(model: keras.Model, image: Path | Array) -> NetworkInput:
    """Turns one image into the input of a model.

    Args:
        model: `Detector`, or a functional or Sequential classifier or backbone.
        image: As in `feature_maps`.

    Returns:
        `NetworkInput`.

    Raises:
        ValueError: If the image is not as described, or the model does not define how images are
            normalised.
    """
    network = model.network if isinstance(model, Detector) else model
    check_graph(network, "keras_spd.explain")
    if isinstance(image, np.ndarray) and image.dtype.kind == "f":
        if image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(
                "A float array, which is passed to the network unchanged, must have the shape "
                f"(height, width, 3). Received: {image.shape}."
            )
        if isinstance(model, Detector):
            check_image_sides(image[None].shape, model.stride)
        low, high = float(image.min()), float(image.max())
        pixels = (255 * (image - low) / ((high - low) or 1)).round().astype("uint8")
        return NetworkInput(network, image[None].astype("float32"), pixels, pixels)
    preprocessing = known_preprocessing(model)
    original = to_array(to_rgb(image, max_value=preprocessing.max_value))
    if isinstance(model, Detector):
        if model not in _warned and warn_of_missing_tile([original.shape[:2]], model.info.tile):
            _warned.add(model)
        size = standardize_image_size(None, model)
        if model.image_sizes is None:  # without unnecessary margins
            size = Letterbox.canvas([original.shape[:2]], size, model.stride)
    else:
        size = network.input_shape[1:3]
        size = (preprocessing.size or original.shape[:2]) if None in size else size
    pixels = preprocessing.resize_image(original, size)
    batch = preprocessing.normalize(pixels[None])
    boxed = preprocessing.resize == "letterbox"
    fit = Letterbox.fit(original.shape[:2], pixels.shape[:2]) if boxed else None
    return NetworkInput(network, batch, pixels, original, fit)


def class_probabilities(model: keras.Model, given: NetworkInput) -> Array:
    """Returns the probability of each class; logits are converted to probabilities.

    Args:
        model: Classifier: `ImageModel`, or another functional or Sequential model.
        given: What `prepare` returned for it.

    Returns:
        Array of shape `(classes,)`.
    """
    outputs = given.network(given.batch, training=False)
    [values] = to_numpy(to_probabilities(model, outputs))
    return values


def class_name(model: keras.Model, index: int) -> str:
    """Returns the name of a class, or its number."""
    info = find_info(model)
    return info.class_names[index] if info and info.class_names else str(index)


def check_class(class_index: Any, num_classes: int) -> int:
    """Returns the index of a class if it is valid; otherwise raises a `ValueError`."""
    if not isinstance(class_index, (int, np.integer)) or not 0 <= class_index < num_classes:
        raise ValueError(
            f"`class_index` must be an integer from 0 to {num_classes - 1}. "
            f"Received: class_index={class_index!r}."
        )
    return int(class_index)


def is_classifier(model: keras.Model) -> bool:
    """Returns whether a model returns one row of class scores per image.

    Args:
        model: Any Keras model.

    Returns:
        Boolean; `False` for a `Detector`, a backbone that returns feature maps and a model with
        several outputs.

    Example:

    >>> keras_spd.explain.is_classifier(keras_spd.applications.ResNet18SPD(classes=2))
    True
    """
    return (
        not isinstance(model, Detector)
        and len(getattr(model, "outputs", None) or ()) == 1
        and len(model.outputs[0].shape) == 2
    )


def check_model(model: Any) -> None:
    """Raises a `ValueError` unless a model is a Keras model."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"A Keras model is needed. Received: {model!r}, of type {type(model).__name__}. Load a "
            "file or shipped weights with `keras_spd.predict.load_model`."
        )


def check_classifier(model: keras.Model, function: str) -> None:
    """Raises a `ValueError` unless a model is a classifier."""
    if not is_classifier(model):
        check_model(model)
        kind = "a detector" if isinstance(model, Detector) else f"of type {type(model).__name__}"
        raise ValueError(
            f"`{function}` is for classifiers, which return one score for each class. "
            f"Received: `{model.name}`, {kind}. `feature_maps` works with any network."
        )
