"""Chooses which images of a dataset are held out for validation."""

import numbers

import numpy as np

from keras_spd.typing import Array


def hold_out(labels: Array, fraction: float, seed: int) -> tuple[Array, Array]:
    """Splits images at random, stratified by class.

    Args:
        labels: Integer array of shape `(images,)`; all equal to ignore classes.
        fraction: Float between 0 and 1, the fraction to hold out. At least one image is held out.
        seed: Integer.

    Returns:
        The indices that remain and those that are held out, each in ascending order. At least one
        image of each class remains; the others are held out in the same proportion in every class,
        to within one image.

    Raises:
        ValueError: If `fraction` is not between 0 and 1, or there is only one image of each class.
    """
    if not (isinstance(fraction, numbers.Real) and 0 < fraction < 1):
        raise ValueError(
            f"`fraction` must be a number between 0 and 1, such as 0.1. Received: {fraction!r}."
        )
    order = np.random.default_rng([seed]).permutation(len(labels))
    _, first_of_class = np.unique(labels[order], return_index=True)
    candidates = np.delete(order, first_of_class)
    if not len(candidates):
        raise ValueError(
            f"Images cannot be split: there is only one image of each class, {len(labels)} in all."
        )
    candidates = candidates[np.argsort(labels[candidates], kind="stable")]
    count = min(max(round(fraction * len(labels)), 1), len(candidates))
    chosen = ((np.arange(count) + 0.5) * len(candidates) / count).astype(int)
    held_out = np.sort(candidates[chosen])
    return np.delete(np.arange(len(labels)), held_out), held_out
