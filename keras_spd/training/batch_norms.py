"""Re-estimates the statistics of batch norms from training images ("precise BN")."""

import itertools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_spd import keras_internals
from keras_spd.typing import Array


def estimate_batch_norms(model: keras.Model, batches: Iterable[Any], steps: int) -> None:
    """Sets the moving statistics of batch norms to those of several batches together.

    The variance includes that of the means of batches. In training, the statistics are moving
    averages, which belong to earlier weights and to the image size of training. Averaged weights
    and other image sizes need new ones. Frozen batch norms keep theirs.

    Args:
        model: Keras model.
        batches: Iterable of `(images, targets)`.
        steps: Integer, the number of batches to use, at most.

    Example:

    >>> estimate_batch_norms(model, train.batches(128, shuffle=True, preprocess=preprocess), 40)

    Reference: Wu and Johnson, "Rethinking Batch in BatchNorm", 2021, section 3,
    https://arxiv.org/abs/2105.07576.
    """
    norms = [norm for norm in _batch_norms(model) if norm.trainable]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    means: list[Any] = [0.0] * len(norms)
    squares: list[Any] = [0.0] * len(norms)
    count = 0
    try:
        for norm in norms:
            norm.momentum = 0.0  # the statistics become those of the batch
        for images, *_ in itertools.islice(batches, steps):
            model(images, training=True)
            count += 1
            for index, norm in enumerate(norms):
                mean, variance = _statistics(norm)
                means[index] += mean
                squares[index] += variance + mean**2
    finally:
        for norm, momentum, total, square in zip(norms, momenta, means, squares, strict=True):
            norm.momentum = momentum
            if count:
                average = total / count
                norm.moving_mean.assign(average)
                norm.moving_variance.assign(np.maximum(square / count - average**2, 0))


def _statistics(norm: keras.layers.BatchNormalization) -> tuple[Array, Array]:
    """Returns the moving mean and variance as float64 arrays."""
    values = (norm.moving_mean, norm.moving_variance)
    mean, variance = (keras.ops.convert_to_numpy(value).astype("float64") for value in values)
    return mean, variance


def copy_batch_norms(source: keras.Model, target: keras.Model) -> None:
    """Copies the moving statistics of batch norms to a copy of the same network."""
    if source is target:
        return
    for ours, theirs in zip(_batch_norms(source), _batch_norms(target), strict=True):
        theirs.moving_mean.assign(keras.ops.convert_to_numpy(ours.moving_mean))
        theirs.moving_variance.assign(keras.ops.convert_to_numpy(ours.moving_variance))


def freeze_alike(source: keras.Model, target: keras.Model) -> None:
    """Freezes the same batch norms in a copy of the same network."""
    for ours, theirs in zip(_batch_norms(source), _batch_norms(target), strict=True):
        theirs.trainable = ours.trainable


def _batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    layers = keras_internals.nested_layers(model)
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
