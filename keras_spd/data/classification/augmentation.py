"""Augments training images, as pure functions of a key.

The layers are Keras' own, but their random numbers come from a key (seed, epoch, batch) instead of
a state, so a resumed run sees the same images as an uninterrupted one.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import keras
import numpy as np

from keras_spd.images.geometry import GRAY
from keras_spd.typing import Array, Tensor

_LARGEST = {
    "crop_padding": math.inf,
    "rotation_degrees": 180,
    "rand_augment": 1,
    "mixup": math.inf,
    "cutmix": 1,
    "cutout": math.inf,
}


class KeySeed(keras.random.SeedGenerator):
    """A stateless seed generator: a fixed sequence of seeds for each key.

    Keras' random layers draw one seed after another from it.

    Args:
        key: Pair of integers below 2**30, or a TensorFlow tensor of two, also inside `tf.data`.
    """

    def __init__(self, key: Tensor) -> None:
        # No `super().__init__`: it creates a variable, which `tf.data` does not allow.
        self._key = key
        self._draws = 0

    def next(self, ordered: bool = True) -> Tensor:
        del ordered
        self._draws += 1
        if _is_tensorflow(self._key):
            return self._key + [0, self._draws]
        dtype = "uint32" if keras.backend.backend() == "jax" else "int32"
        return keras.ops.convert_to_tensor(np.add(self._key, [0, self._draws]), dtype)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random augmentation of batches of small images.

    Args:
        crop_padding: Integer, pixels of zero padding on every side before a random crop to the
            original size, which shifts the image by up to that many pixels.
        horizontal_flip: Boolean, whether to flip each image with probability 0.5; or
            `"alternating"`: a random half of the images is flipped in even epochs and the other
            half in odd ones, so that two epochs show both views of each image (Jordan, "94% on
            CIFAR-10 in 3.29 Seconds", 2024).
        vertical_flip: Boolean, whether to flip each image with probability 0.5.
        rotation_degrees: Number, the largest rotation in either direction. Corners become black
            and pixels are not interpolated (torchvision's default).
        rand_augment: Number, strength of `keras.layers.RandAugment`, 0..1: two operations per
            batch, such as colour, contrast, sharpness, shear or rotation. Keras' rotations and
            shifts go in one direction, by up to this fraction of a circle or a side.
        mixup: Number, alpha of `keras.layers.MixUp`: images and labels are mixed with weights from
            a beta distribution.
        cutmix: Number, alpha of `keras.layers.CutMix`, 0..1: a part of another image is pasted.
            With both `mixup` and `cutmix`, each batch gets one of them.
        cutout: Integer, side in pixels of a square in each image, at a random place, that becomes
            grey (DeVries and Taylor, 2017).

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> augment = Augmentation(crop_padding=4, horizontal_flip=True).build(32, 32)
    >>> augmented = augment(images, key=(0, 1))
    """

    crop_padding: int = 0
    horizontal_flip: bool | Literal["alternating"] = False
    vertical_flip: bool = False
    rotation_degrees: float = 0.0
    rand_augment: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    cutout: int = 0

    def __post_init__(self) -> None:
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if not 0 <= value <= largest:
                limit = "at least 0" if largest == math.inf else f"between 0 and {largest}"
                raise ValueError(f"`{name}` must be {limit}. Received: {name}={value!r}.")
        for name, words in (("horizontal_flip", ("alternating",)), ("vertical_flip", ())):
            value = getattr(self, name)
            if not isinstance(value, bool) and value not in words:
                accepted = ", ".join(["`True`", "`False`", *map(repr, words)])
                raise ValueError(
                    f"`{name}` must be one of {accepted}; images are flipped with probability "
                    f"0.5. Received: {name}={value!r}."
                )

    @property
    def mixes(self) -> bool:
        """Whether images of several classes are mixed, which requires soft labels."""
        return bool(self.mixup or self.cutmix)

    def build(
        self, height: int | None, width: int | None
    ) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Returns a function that augments batches of images of one size, or `None`.

        The function takes float images `(batch, height, width, channels)` and a key, a pair of
        integers below 2**30 (or a tensor, inside `tf.data`), and returns images of the same shape.
        The same key gives the same result. `None` if nothing is to be done.

        Args:
            height, width: Size of the images in pixels, or `None` if unknown.

        Raises:
            ValueError: If `crop_padding` is set and the size is unknown.
        """
        layers = self._layers(height, width)
        if not layers:
            return None

        def augment(images: Tensor, key: Tensor) -> Tensor:
            seed = KeySeed(key)
            for layer in layers:
                images = _apply(layer, images, seed)
            return images

        return augment

    def build_mixing(self) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """Returns a function for MixUp and CutMix, or `None` if neither is set.

        The function takes images `(batch, height, width, channels)`, labels `(batch, classes)`
        and a key, and returns images and labels.
        """
        layers = []
        if self.mixup:
            layers.append(keras.layers.MixUp(self.mixup, dtype="float32"))
        if self.cutmix:
            # A single number would be the largest alpha of a random one.
            layers.append(keras.layers.CutMix((self.cutmix, self.cutmix), dtype="float32"))
        if not layers:
            return None

        def mix(images: Tensor, labels: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
            seed = KeySeed(key)
            mixed = [_mix(layer, images, labels, seed) for layer in layers]
            if len(mixed) == 1:
                return mixed[0]
            with _backend_of(layers[0], images) as backend:
                first = backend.random.uniform((), seed=seed) < 0.5
                return tuple(backend.numpy.where(first, *both) for both in zip(*mixed, strict=True))

        return mix

    def flipped_epochs(self, num_images: int, seed: int) -> Array | None:
        """Returns for each image whether it is flipped in even (0) or in odd (1) epochs.

        `None` without alternating flips.
        """
        if self.horizontal_flip != "alternating":
            return None
        return np.random.default_rng([seed, 2]).integers(2, size=num_images)

    def _cutout(self, height: int | None, width: int | None) -> keras.layers.Layer:
        if height != width or height is None or self.cutout > height:
            raise ValueError(
                "`cutout` needs square images of one size, at least as large as the square that is "
                f"erased. Received: cutout={self.cutout} and images of {height} x {width} pixels."
            )
        area = (self.cutout / height) ** 2
        return keras.layers.RandomErasing((1, 1), (area, area), fill_value=GRAY, dtype="float32")

    def _layers(self, height: int | None, width: int | None) -> list[keras.layers.Layer]:
        layers = []
        fill = {"fill_mode": "constant", "interpolation": "nearest"}
        if self.crop_padding:
            if height is None or width is None:
                raise ValueError("`crop_padding` needs images of one size, in pixels.")
            if self.crop_padding >= min(height, width):
                raise ValueError(
                    "`crop_padding` must be smaller than the images. Received: "
                    f"crop_padding={self.crop_padding} and images of {height} x {width} pixels."
                )
            # Uniform in +-(padding + 0.5) and rounded, so all integer shifts are equally likely.
            shift = self.crop_padding + 0.5
            layers.append(keras.layers.RandomTranslation(shift / height, shift / width, **fill))
        for mode in ("horizontal", "vertical"):
            if getattr(self, f"{mode}_flip") is True:
                layers.append(keras.layers.RandomFlip(mode))
        if self.rotation_degrees:
            layers.append(keras.layers.RandomRotation(self.rotation_degrees / 360, **fill))
        if self.rand_augment:
            layers.append(_RandAugment(factor=self.rand_augment, dtype="float32"))
        if self.cutout:
            layers.append(self._cutout(height, width))
        return layers


class _RandAugment(keras.layers.RandAugment):
    """Keras' layer, using the given seed; Keras' version ignores it and uses its own state."""

    def get_random_transformation(
        self, data: Tensor, training: bool = True, seed: Any = None
    ) -> Any:
        self._get_seed_generator = lambda backend=None: seed
        return super().get_random_transformation(data, training)


def _apply(layer: Any, images: Tensor, seed: KeySeed) -> Tensor:
    with _backend_of(layer, images):
        transformation = layer.get_random_transformation(images, training=True, seed=seed)
        return layer.transform_images(images, transformation, training=True)


def _mix(layer: Any, images: Tensor, labels: Tensor, seed: KeySeed) -> tuple[Tensor, Tensor]:
    with _backend_of(layer, images):
        transformation = layer.get_random_transformation(images, training=True, seed=seed)
        return (
            layer.transform_images(images, transformation, training=True),
            layer.transform_labels(labels, transformation, training=True),
        )


@contextlib.contextmanager
def _backend_of(layer: Any, images: Tensor) -> Iterator[Any]:
    """Makes a layer compute with TensorFlow inside `tf.data`, whatever the Keras backend."""
    in_tf_data = _is_tensorflow(images)
    if in_tf_data:
        layer.backend.set_backend("tensorflow")
    try:
        yield layer.backend
    finally:
        if in_tf_data:
            layer.backend.reset()


def _is_tensorflow(x: Any) -> bool:
    return type(x).__module__.startswith("tensorflow")
