"""Re-estimates the statistics of batch norms from training images ("precise BN")."""

import itertools
from collections.abc import Iterable
from typing import Any

import keras

from keras_spd import keras_internals


def estimate_batch_norms(model: keras.Model, batches: Iterable[Any], steps: int) -> None:
    """Sets the moving statistics of batch norms to the mean over batches.

    In training they are moving averages, which belong to earlier weights and to the image size of
    training. Averaged weights and other image sizes need new ones. Frozen batch norms keep theirs.

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
    momenta = [norm.momentum for norm in norms]
    try:
        for step, (images, *_) in enumerate(itertools.islice(batches, steps)):
            for norm in norms:
                norm.momentum = step / (step + 1)  # the mean of all batches so far
            model(images, training=True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def copy_batch_norms(source: keras.Model, target: keras.Model) -> None:
    """Copies the moving statistics of batch norms to a copy of the same network."""
    if source is target:
        return
    for ours, theirs in zip(_batch_norms(source), _batch_norms(target), strict=True):
        theirs.moving_mean.assign(keras.ops.convert_to_numpy(ours.moving_mean))
        theirs.moving_variance.assign(keras.ops.convert_to_numpy(ours.moving_variance))


def _batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    layers = keras_internals.nested_layers(model)
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
