"""One image as a network takes it, and the classes it finds in it."""

import dataclasses

import keras
import numpy as np
from PIL import Image

from keras_spd.applications import Detector, preprocess_input
from keras_spd.detection.detector import standardize_image_size
from keras_spd.explain.activations import gives_scores, to_numpy
from keras_spd.images.geometry import Letterbox, letterbox
from keras_spd.images.read import read_image
from keras_spd.surgery.graph import check_graph


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


def prepare(model, image):
    """Makes one image what a model takes.

    Args:
        model: `Detector`, or a functional or Sequential classifier or backbone.
        image: Path, or uint8 array `(height, width, 3)` with RGB pixels, which is resized and
            normalised as the model's `info` says (a detector's is letterboxed); or a float array,
            which the network takes as it is.

    Returns:
        `NetworkInput`.

    Raises:
        ValueError: If the image is none of these, or the model does not say how it is normalised.
    """
    network = model.network if isinstance(model, Detector) else model
    check_graph(network, "explain")
    if not isinstance(image, np.ndarray):
        image = read_image(image)
    if image.ndim != 3 or image.dtype.kind not in "uf" or image.shape[-1] != 3:
        raise ValueError(
            "`image` must be a path, a uint8 array (height, width, 3), or a float array that the "
            f"network takes as it is. Received: {image.dtype} of shape {image.shape}."
        )
    if image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        pixels = (255 * (image - low) / ((high - low) or 1)).round().astype("uint8")
        return NetworkInput(network, image[None].astype("float32"), pixels, pixels)
    info = getattr(model, "info", None)
    if info is None:
        raise ValueError(
            f"`{model.name}` does not know how its images are normalised. Pass a float array as "
            "the network takes it, or give the model the `info` of the one it was made from: "
            "`ImageModel(model.inputs, model.outputs, info=ModelInfo(statistics=...))`."
        )
    if isinstance(model, Detector):
        size = standardize_image_size(None, model)
        if model.image_sizes is None:  # without margins that it does not need
            size = Letterbox.canvas([image.shape[:2]], size, model.stride)
        pixels, _ = letterbox(image, size)
    else:
        size = network.input_shape[1:3]
        size = (info.image_size or image.shape[:2]) if None in size else size
        pixels = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    if getattr(info, "statistics", None) is not None:
        batch = preprocess_input(pixels, info.statistics)
    else:
        low, high = info.input_range
        batch = pixels.astype("float32") * ((high - low) / 255) + low
    return NetworkInput(network, batch[None], pixels, image)


def classify(model, image, top=5):
    """Names the classes of one image.

    Args:
        model: Classifier: `ImageModel`, or another functional or Sequential model.
        image: Path, uint8 or float array, as in `feature_maps`.
        top: Integer, how many classes to return.

    Returns:
        List of `(class_index, class_name, probability)`, the most probable first. Of a model that
        returns scores, the softmax of these.

    Raises:
        ValueError: If the model is no classifier.

    Example:

    >>> keras_spd.explain.classify(model, "frog.png", top=1)
    [(6, 'frog', 0.93...)]
    """
    check_classifier(model, "classify")
    given = prepare(model, image)
    [values] = to_numpy(given.network(given.batch, training=False))
    if gives_scores(given.network):
        values = np.exp(values - values.max())
        values /= values.sum()
    best = np.argsort(-values, kind="stable")[:top]
    return [(int(index), class_name(model, int(index)), float(values[index])) for index in best]


def class_name(model, index):
    """Returns the name of a class, or its number."""
    names = getattr(getattr(model, "info", None), "class_names", None)
    return names[index] if names else str(index)


def is_classifier(model):
    """Tells whether a model gives one row of class scores for an image."""
    return (
        not isinstance(model, Detector)
        and len(getattr(model, "outputs", None) or ()) == 1
        and len(model.outputs[0].shape) == 2
    )


def check_classifier(model, function):
    """Raises a `ValueError` unless a model is a classifier."""
    if not is_classifier(model):
        kind = "a detector" if isinstance(model, Detector) else f"a {type(model).__name__}"
        raise ValueError(
            f"`{function}` is for classifiers, which give one score for each class of an image. "
            f"Received: `{model.name}`, {kind}. `feature_maps` shows what any network sees."
        )
