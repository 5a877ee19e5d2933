"""Turns pixels into network inputs, and classifier outputs into class names."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from PIL import Image

from keras_spd.checks import check_choice, check_integer
from keras_spd.images.depth import check_max_value
from keras_spd.images.geometry import (
    letterbox,
    letterbox_in_graph,
    stretch,
    stretch_in_graph,
)
from keras_spd.images.sizes import parse_sides
from keras_spd.typing import Array, Tensor


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each RGB channel of a dataset, for pixels scaled to 0..1.

    Args:
        mean: Three numbers.
        std: Three positive numbers.
        source: String that says where the numbers come from.

    Raises:
        ValueError: If there are not three of each, or `std` is not positive.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists, where a config was read from JSON
            values = np.atleast_1d(getattr(self, name))
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise ValueError(
                "`mean` and `std` must have one value for each RGB channel, and `std` must be "
                f"positive. Received: mean={self.mean}, std={self.std}."
            )


def _from_255(values: tuple[float, float, float]) -> Any:
    return tuple(value / 255 for value in values)


STATISTICS = {
    # CIFAR-100's statistics: the authors normalise CIFAR-10 with them, so their checkpoints
    # expect them.
    "cifar10": Statistics(
        mean=(0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
        std=(0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
        source="CIFAR100_TRAIN_MEAN/STD, ResNet50-SPD/conf/global_settings.py of LabSAINT/SPD-Conv",
    ),
    "tiny_imagenet": Statistics(
        mean=_from_255((122.4786, 114.2755, 101.3963)),
        std=_from_255((70.4924, 68.5679, 71.8127)),
        source="transform, ResNet18-SPD/tiny_imagenet_loader.py of LabSAINT/SPD-Conv",
    ),
    "imagenet": Statistics(
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        source="torchvision.models; the usual choice for photographs",
    ),
}


def get_statistics(statistics: Any) -> Statistics:
    """Looks up `Statistics` by name.

    Args:
        statistics: A name in `STATISTICS`, or `Statistics`, which are returned unchanged.

    Returns:
        `Statistics`.

    Raises:
        ValueError: If the name is unknown.
    """
    if isinstance(statistics, Statistics):
        return statistics
    if not isinstance(statistics, str) or statistics not in STATISTICS:
        raise ValueError(
            f"`statistics` must be one of {sorted(STATISTICS)} or a `Statistics(mean, std)`. "
            f"Received: statistics={statistics!r}."
        )
    return STATISTICS[statistics]


def preprocess_input(x: Any, statistics: str | Statistics = "cifar10") -> Any:
    """Normalises RGB images. The networks do not normalise their inputs themselves.

    Args:
        x: Array or tensor of RGB values 0..255, channels last. Integers become float32.
        statistics: A name in `keras_spd.applications.STATISTICS` (`"cifar10"`,
            `"tiny_imagenet"`, `"imagenet"`) or a `Statistics(mean, std)`, e.g.
            `model.info.statistics`.

    Returns:
        `(x / 255 - mean) / std`, of the same shape: a NumPy array for a NumPy array, otherwise a
        tensor.

    Raises:
        ValueError: If `statistics` is unknown or the last axis of `x` is not RGB.

    Example:

    >>> x = keras_spd.applications.preprocess_input(images, statistics="cifar10")
    """
    statistics = get_statistics(statistics)
    if not hasattr(x, "shape"):
        x = np.asarray(x)
    if not len(x.shape) or x.shape[-1] != 3:
        raise ValueError(
            "`preprocess_input` takes RGB images, with 3 channels in the last axis. "
            f"Received: x.shape={tuple(x.shape)}."
        )
    x = _floats(x)
    mean: Any = np.array(statistics.mean, "float32") * 255
    std: Any = np.array(statistics.std, "float32") * 255
    if _is_tensorflow(x):  # lists take the tensor's own type
        mean, std = mean.tolist(), std.tolist()
    elif hasattr(x, "new_tensor"):  # PyTorch's, which may be on another device
        mean, std = x.new_tensor(mean), x.new_tensor(std)
    elif not isinstance(x, np.ndarray):
        dtype = keras.backend.standardize_dtype(x.dtype)
        mean, std = (ops.convert_to_tensor(values, dtype) for values in (mean, std))
    return (x - mean) / std


def _floats(x: Any) -> Any:
    """Returns an array as float32, and a tensor of integers cast to float32."""
    if isinstance(x, np.ndarray):
        return x.astype("float32")
    if "float" in str(x.dtype):
        return x
    if _is_tensorflow(x):  # also inside `tf.data` while Keras runs on another backend
        import tensorflow as tf

        return tf.cast(x, "float32")
    return ops.cast(x, "float32")


def _is_tensorflow(x: Any) -> bool:
    return type(x).__module__.startswith("tensorflow")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input, and how to read the network's outputs.

    It is part of a model's `ModelInfo` and saved with it. Prediction, explanation, evaluation and
    every export use it.

    Args:
        resize: `"stretch"` to resize to the network's input size, ignoring the aspect ratio, or
            `"letterbox"` to keep the aspect ratio and fill the rest with grey.
        size: `(height, width)` the network was trained at, in pixels; `None` if unknown.
        input_range: The values that 0 and 255 map to, for a network that takes scaled pixels:
            `(0, 255)` for unchanged pixels, `(0, 1)` or `(-1, 1)`. Ignored if `statistics` is
            set.
        statistics: `Statistics` that images are normalised with, or `None`.
        outputs: What a classifier returns, `"probabilities"` or `"logits"`; `None` to infer it
            from the last operation.
        max_value: The value that maps to 255 in images with more than 8 bits, as in `to_rgb`,
            the same for training and prediction; `None` for the largest value of the data type.
        tile: `(height, width)` in pixels of the tiles that larger images were cut into in
            training; `None` if they were not.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> mobilenet = Preprocessing(size=(224, 224), input_range=(-1, 1))
    >>> mobilenet.normalize(np.array([0, 255], "uint8"))
    array([-1.,  1.], dtype=float32)
    """

    resize: str = "stretch"
    size: tuple[int, int] | None = None
    input_range: tuple[float, float] | None = None
    statistics: Statistics | None = None
    outputs: str | None = None
    max_value: float | None = None
    tile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_value", check_max_value(self.max_value))
        for name, kind in (("size", int), ("input_range", float), ("tile", int)):
            pair = getattr(self, name)
            if pair is not None:
                object.__setattr__(self, name, _pair(name, pair, kind))
        if isinstance(self.statistics, dict):  # of a config
            object.__setattr__(self, "statistics", Statistics(**self.statistics))
        elif self.statistics is not None:
            object.__setattr__(self, "statistics", get_statistics(self.statistics))
        for name, choices in (
            ("resize", ("stretch", "letterbox")),
            ("outputs", (None, "probabilities", "logits")),
        ):
            check_choice(name, getattr(self, name), choices)

    @property
    def is_known(self) -> bool:
        """Whether it defines how pixels are normalised."""
        return self.statistics is not None or self.input_range is not None

    @property
    def takes_pixels(self) -> bool:
        """Whether the network takes unscaled pixels, 0..255."""
        return self.statistics is None and self.input_range == (0.0, 255.0)

    def resize_image(self, pixels: Array | Image.Image, image_size: Sequence[int]) -> Array:
        """Resizes an image to the network's input size, by stretching or letterboxing.

        Args:
            pixels: uint8 array of shape `(height, width, 3)`, or a Pillow RGB image.
            image_size: `(height, width)` of the result, in pixels.

        Returns:
            uint8 array of shape `(*image_size, 3)`.
        """
        if self.resize == "letterbox":
            return letterbox(pixels, image_size)[0]
        return stretch(pixels, image_size)

    def resize_in_graph(self, pixels: Tensor, image_size: Sequence[int]) -> Tensor:
        """`resize_image` in a TensorFlow graph; returns a float32 tensor."""
        if self.resize == "letterbox":
            return letterbox_in_graph(pixels, image_size)[0]
        return stretch_in_graph(pixels, image_size)

    def normalize(self, pixels: Any) -> Any:
        """Scales or normalises pixels for the network.

        Args:
            pixels: Array or tensor of RGB values 0..255 of any data type, channels last.

        Returns:
            float32 array for an array, otherwise a tensor; of the same shape.

        Raises:
            ValueError: If neither `statistics` nor `input_range` is set.
        """
        if self.statistics is not None:
            return preprocess_input(pixels, self.statistics)
        scale, low = self.scale_and_offset()
        if self.takes_pixels:
            return pixels.astype("float32") if isinstance(pixels, np.ndarray) else pixels
        return _floats(pixels) * scale + low

    def normalize_in_graph(self, pixels: Tensor) -> Tensor:
        """`normalize` as a float32 layer, for a model to be exported."""
        if self.statistics is not None:
            # A depthwise 1x1 convolution is a single operator, and robust to int8 quantization.
            deviation = 255 * np.array(self.statistics.std)
            layer = keras.layers.DepthwiseConv2D(1, name="normalize", dtype="float32")
            layer.build(pixels.shape)
            layer.kernel.assign((1 / deviation).reshape(1, 1, 3, 1))
            layer.bias.assign(-255 * np.array(self.statistics.mean) / deviation)
            return layer(pixels)
        if self.takes_pixels:
            return pixels
        scale, low = self.scale_and_offset()
        return keras.layers.Rescaling(scale, low, name="normalize", dtype="float32")(pixels)

    def scale_and_offset(self) -> tuple[Any, Any]:
        """Returns the `scale` and `offset` of `normalize`: `pixels * scale + offset`.

        Returns:
            Two numbers or, with `statistics`, two lists with one number for each channel.

        Raises:
            ValueError: If neither `statistics` nor `input_range` is set.
        """
        if self.statistics is not None:
            mean, std = np.array(self.statistics.mean), np.array(self.statistics.std)
            return (1 / (255 * std)).tolist(), (-mean / std).tolist()
        if self.input_range is None:
            raise ValueError("`Preprocessing` needs `statistics` or `input_range` to normalise.")
        low, high = self.input_range
        return (high - low) / 255, low


def _pair(name: str, values: Any, kind: type) -> tuple[Any, Any]:
    """Returns `values` as a pair of numbers, or raises a `ValueError`."""
    if kind is int and (sides := parse_sides(values)) is not None:
        return sides
    values = tuple(values) if isinstance(values, (tuple, list, np.ndarray)) else (values,)
    numbers = all(isinstance(value, (int, float, np.number)) for value in values)
    if len(values) == 2 and numbers:
        first, second = map(kind, values)
        if kind is float and first < second:
            return first, second
    accepted = "(lowest, highest)" if kind is float else "(height, width), in pixels"
    raise ValueError(f"`{name}` must be {accepted}. Received: {name}={values!r}.")


def decode_predictions(
    predictions: Any, class_names: Sequence[str], top: int = 5
) -> list[list[tuple[int, str, float]]]:
    """Names the most probable classes of each image.

    Args:
        predictions: Array of shape `(images, classes)`, as `model.predict` returns it.
        class_names: One name for each class, in order, e.g. `model.info.class_names`.
        top: Integer, how many classes to return for each image.

    Returns:
        For each image a list of at most `top` tuples `(class_index, class_name, score)`, best
        first.

    Raises:
        ValueError: If the number of names differs from the number of classes, or `top` is not a
            positive integer.

    Example:

    >>> decode_predictions(np.array([[0.1, 0.9]]), ["cat", "dog"], top=1)
    [[(1, 'dog', 0.9)]]
    """
    predictions = np.asarray(predictions)
    if predictions.ndim != 2 or predictions.shape[1] != len(class_names):
        raise ValueError(
            "`predictions` must have the shape (images, classes) with one class for each of "
            f"`class_names`. Received: predictions.shape={predictions.shape} and "
            f"{len(class_names)} class names."
        )
    top = check_integer("top", top)
    best = np.argsort(-predictions, axis=1, kind="stable")[:, :top]
    return [
        [(int(index), class_names[index], float(scores[index])) for index in indices]
        for scores, indices in zip(predictions, best, strict=True)
    ]
