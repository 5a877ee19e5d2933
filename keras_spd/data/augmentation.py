"""Random changes to training images, as pure functions of a key.

The layers are Keras' own. Here their random numbers are drawn from a key (seed, epoch, batch)
instead of from a state, so that a resumed training run sees the images an unbroken one would see.
"""

import dataclasses

import keras
import numpy as np


class KeySeed(keras.random.SeedGenerator):
    """A seed generator without a state: a fixed sequence of seeds for each key.

    Keras' random layers ask it for one seed after another.

    Args:
        key: Pair of integers below 2**30, or a TensorFlow tensor of two, also inside `tf.data`.
    """

    def __init__(self, key):  # a SeedGenerator makes a variable here, which `tf.data` cannot have
        self._key = key
        self._draws = 0

    def next(self, ordered=True):
        del ordered
        self._draws += 1
        if _is_tensorflow(self._key):
            return self._key + [0, self._draws]
        dtype = "uint32" if keras.backend.backend() == "jax" else "int32"
        return keras.ops.convert_to_tensor(np.add(self._key, [0, self._draws]), dtype)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes to batches of images: what the recipes of small-image networks use.

    Args:
        crop_padding: Integer, in pixels: pads every side with zeros by as much and crops at
            random, which shifts the image by up to as much in each direction.
        horizontal_flip: Boolean.
        vertical_flip: Boolean.
        rotation_degrees: Number: turns by up to as many degrees, either way. Corners become
            black; pixels are not interpolated (torchvision's default).

    Example:

    >>> augment = Augmentation(crop_padding=4, horizontal_flip=True).build(32, 32)
    >>> augmented = augment(images, key=(0, 1))
    """

    crop_padding: int = 0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation_degrees: float = 0.0

    def build(self, height, width):
        """Returns a function that augments batches of images of one size, or `None` if none would.

        The function takes float images `(batch, height, width, channels)` and a key, a pair of
        integers below 2**30 (also as a tensor, inside `tf.data`), and returns images of the same
        shape. The same key gives the same changes.
        """
        layers = self._layers(height, width)
        if not layers:
            return None

        def augment(images, key):
            seed = KeySeed(key)
            for layer in layers:
                images = _apply(layer, images, seed)
            return images

        return augment

    def _layers(self, height, width):
        layers = []
        fill = {"fill_mode": "constant", "interpolation": "nearest"}
        if self.crop_padding:
            if height is None or width is None:
                raise ValueError("`crop_padding` needs images of one size, in pixels.")
            # A shift by u, uniform in +-(padding + 0.5), rounded: every whole shift is as likely.
            shift = self.crop_padding + 0.5
            layers.append(keras.layers.RandomTranslation(shift / height, shift / width, **fill))
        for mode in ("horizontal", "vertical"):
            if getattr(self, f"{mode}_flip"):
                layers.append(keras.layers.RandomFlip(mode))
        if self.rotation_degrees:
            layers.append(keras.layers.RandomRotation(self.rotation_degrees / 360, **fill))
        return layers


def _apply(layer, images, seed):
    # Inside `tf.data` Keras' layers compute with TensorFlow, whatever the backend.
    in_tf_data = _is_tensorflow(images)
    if in_tf_data:
        layer.backend.set_backend("tensorflow")
    try:
        transformation = layer.get_random_transformation(images, training=True, seed=seed)
        return layer.transform_images(images, transformation, training=True)
    finally:
        if in_tf_data:
            layer.backend.reset()


def _is_tensorflow(x):
    return type(x).__module__.startswith("tensorflow")
