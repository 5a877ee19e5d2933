"""One image as input of a network, and its predicted classes."""

import dataclasses

import keras
import numpy as np

from keras_spd.applications import Detector
from keras_spd.detection.detector import standardize_image_size
from keras_spd.explain.activations import to_numpy
from keras_spd.image_model import find_info, known_preprocessing
from keras_spd.images.geometry import Letterbox
from keras_spd.images.read import to_array, to_rgb
from keras_spd.surgery.graph import check_graph
from keras_spd.surgery.outputs import to_probabilities
from keras_spd.typing import Array, Path


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkInput:
    """One image and the network that takes it.

    Args:
        network: Functional or Sequential model; of a detector, the network inside.
        batch: float32 array `(1, height, width, channels)`, what the network takes.
        pixels: uint8 array `(height, width, 3)`, the same to look at.
        original: uint8 array, the image before it was resized.
    """

    network: keras.Model
    batch: np.ndarray
    pixels: np.ndarray
    original: np.ndarray


def prepare(model: keras.Model, image: Path | Array) -> NetworkInput:
    """Turns one image into the input of a model.

    Args:
        model: `Detector`, or a functional or Sequential classifier or backbone.
        image: What `keras_spd.images.to_rgb` takes, which is resized and normalised as the
            model's `info` says (a detector's is letterboxed); or a float array
            `(height, width, 3)`, which the network takes as it is.

    Returns:
        `NetworkInput`.

    Raises:
        ValueError: If the image is none of these, or the model does not say how it is normalised.
    """
    network = model.network if isinstance(model, Detector) else model
    check_graph(network, "explain")
    if isinstance(image, np.ndarray) and image.dtype.kind == "f":
        if image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(
                "A float array, which the network takes as it is, must have the shape (height, "
                f"width, 3). Received: {image.shape}."
            )
        low, high = float(image.min()), float(image.max())
        pixels = (255 * (image - low) / ((high - low) or 1)).round().astype("uint8")
        return NetworkInput(network, image[None].astype("float32"), pixels, pixels)
    preprocessing = known_preprocessing(model)
    original = to_array(to_rgb(image, max_value=preprocessing.max_value))
    if isinstance(model, Detector):
        size = standardize_image_size(None, model)
        if model.image_sizes is None:  # without margins that it does not need
            size = Letterbox.canvas([original.shape[:2]], size, model.stride)
    else:
        size = network.input_shape[1:3]
        size = (preprocessing.size or original.shape[:2]) if None in size else size
    pixels = preprocessing.resize_image(original, size)
    batch = preprocessing.normalize(pixels[None])
    return NetworkInput(network, batch, pixels, original)


def classify(
    model: keras.Model, image: Path | Array, top: int | None = 5
) -> list[tuple[int, str, float]]:
    """Names the classes of one image.

    Args:
        model: Classifier: `ImageModel`, or another functional or Sequential model.
        image: Path, uint8 or float array, as in `feature_maps`.
        top: Integer, how many classes to return.

    Returns:
        List of `(class_index, class_name, probability)`, the most probable first. Of a model that
        returns logits, the softmax of these.

    Raises:
        ValueError: If the model is no classifier.

    Example:

    >>> keras_spd.explain.classify(model, "frog.png", top=1)
    [(6, 'frog', 0.93...)]
    """
    check_classifier(model, "classify")
    given = prepare(model, image)
    outputs = given.network(given.batch, training=False)
    [values] = to_numpy(to_probabilities(model, outputs))
    best = np.argsort(-values, kind="stable")[:top]
    return [(int(index), class_name(model, int(index)), float(values[index])) for index in best]


def class_name(model: keras.Model, index: int) -> str:
    """Returns the name of a class, or its number."""
    info = find_info(model)
    return info.class_names[index] if info and info.class_names else str(index)


def is_classifier(model: keras.Model) -> bool:
    """Tells whether a model gives one row of class scores for an image."""
    return (
        not isinstance(model, Detector)
        and len(getattr(model, "outputs", None) or ()) == 1
        and len(model.outputs[0].shape) == 2
    )


def check_classifier(model: keras.Model, function: str) -> None:
    """Raises a `ValueError` unless a model is a classifier."""
    if not is_classifier(model):
        kind = "a detector" if isinstance(model, Detector) else f"a {type(model).__name__}"
        raise ValueError(
            f"`{function}` is for classifiers, which give one score for each class of an image. "
            f"Received: `{model.name}`, {kind}. `feature_maps` shows what any network sees."
        )
