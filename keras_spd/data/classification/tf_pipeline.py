"""Batches as `tf.data`, in an order that only depends on seed and epoch. Imports TensorFlow."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_spd.data.classification.augmentation import Augmentation
from keras_spd.images.geometry import stretch_in_graph
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.typing import Array

_SHUFFLE_BUFFER = 50_000


def standardize(
    image_size: tuple[int, int] | None, preprocessing: Preprocessing
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a function that converts an image to RGB and resizes it to `image_size`, if given."""

    def function(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if image.shape[-1] == 1:
            image = tf.image.grayscale_to_rgb(image)
        if image_size is not None:
            image = tf.saturate_cast(preprocessing.resize_in_graph(image, image_size), tf.uint8)
        return image, label

    return function


def select(dataset: tf.data.Dataset, indices: Array, num_images: int) -> tf.data.Dataset:
    """Returns a `tf.data.Dataset` of the images with these indices, in the same order."""
    chosen = tf.constant(np.isin(np.arange(num_images), indices))
    numbered = dataset.enumerate().filter(lambda number, _: tf.gather(chosen, number))
    selected = numbered.map(lambda _, example: example)
    return selected.apply(tf.data.experimental.assert_cardinality(len(indices)))


def batches(
    dataset: tf.data.Dataset,
    num_images: int,
    batch_size: int,
    *,
    preprocess: Callable[[Any], Any],
    shuffle: bool,
    augmentation: Augmentation,
    seed: int,
    first_epoch: int,
    epochs: int | None,
    num_classes: int | None,
    image_size: tuple[int, int] | None,
) -> tf.data.Dataset:
    """Batches a `tf.data.Dataset` of single images and labels.

    Args:
        dataset: Yields `(image, label)`, always in the same order.
        num_images: Integer, its length.
        batch_size, preprocess, shuffle, augmentation, seed, first_epoch, epochs, image_size: As in
            `ClassificationData.batches`.
        num_classes: Integer to return soft labels for that many classes; `None` for class
            indices.

    Returns:
        `tf.data.Dataset` of `(images, labels)`.
    """
    augment = augmentation.build(*dataset.element_spec[0].shape[:2])
    mix = augmentation.build_mixing()
    flipped_epochs = augmentation.flipped_epochs(num_images, seed)

    def one_epoch(epoch: Any) -> tf.data.Dataset:
        images = dataset.enumerate()
        if shuffle:
            # Only affects the graph of `flat_map`. Otherwise `shuffle` would mix in TensorFlow's
            # global seed, and the order would depend on it.
            tf.random.set_seed(1)
            buffer_size = min(num_images, _SHUFFLE_BUFFER)
            images = images.shuffle(buffer_size, seed=seed * 1_000_003 + epoch)
        batches = images.batch(
            batch_size, drop_remainder=shuffle, num_parallel_calls=tf.data.AUTOTUNE
        )
        return batches.enumerate().map(
            lambda index, batch: prepare(epoch, index, batch[0], *batch[1]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def prepare(epoch: Any, index: Any, numbers: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        images = tf.cast(images, "float32")
        if num_classes is not None:
            labels = tf.one_hot(labels, num_classes)
        if flipped_epochs is not None:
            flips = (tf.gather(flipped_epochs, numbers) - epoch) % 2 == 0
            images = tf.where(flips[:, None, None, None], images[:, :, ::-1], images)
        if augment is not None:
            images = augment(images, _key(seed, epoch, index))
        if mix is not None:
            images, labels = mix(images, labels, _key(seed + 1, epoch, index))
        if image_size is not None:
            images = stretch_in_graph(images, image_size)
        return preprocess(images), labels

    changes = not (augment is None and mix is None and flipped_epochs is None)
    if not shuffle and not changes and epochs is None:
        stream = one_epoch(tf.constant(first_epoch, "int64"))  # every epoch is the same
    else:
        num_batches = num_images // batch_size if shuffle else -(-num_images // batch_size)
        stream = _stream(one_epoch, first_epoch, epochs, num_batches)
    return stream.prefetch(tf.data.AUTOTUNE)


def _stream(
    one_epoch: Callable[[Any], tf.data.Dataset],
    first_epoch: int,
    epochs: int | None,
    num_batches: int,
) -> tf.data.Dataset:
    """Returns one stream of all epochs; without `epochs`, each iteration is the next epoch."""
    if epochs is not None:
        return tf.data.Dataset.range(first_epoch, first_epoch + epochs).flat_map(one_epoch)
    counter = itertools.count(first_epoch)
    numbers = tf.data.Dataset.from_generator(
        lambda: iter([next(counter)]), output_signature=tf.TensorSpec((), "int64")
    )
    cardinality = tf.data.experimental.assert_cardinality(num_batches)
    return numbers.flat_map(one_epoch).apply(cardinality)


def _key(seed: int, epoch: Any, index: Any) -> tf.Tensor:
    """Mixes seed, epoch and batch into a tensor of two int32 numbers."""
    return tf.random.stateless_uniform(
        (2,),
        seed=tf.cast(tf.stack([seed * 1_000_003 + epoch, index]) % (2**31 - 1), "int32"),
        minval=0,
        maxval=2**30,
        dtype=tf.int32,
    )
