"""The random order of the images in an epoch."""

from collections.abc import Sequence

import numpy as np

from keras_spd.data.detection.boxed_image import BoxedImage
from keras_spd.typing import Array


def random_order(images: Sequence[BoxedImage], rng: np.random.Generator, most_bytes: int) -> Array:
    """Returns the indices of images in random order, with tiles of one image near each other.

    Images are drawn one after the other, into groups that take at most `most_bytes` when decoded.
    The tiles of a group are in random order. So with a group and the next one in memory, each image
    is decoded once per epoch.

    Args:
        images: List of `BoxedImage`. Without tiles, all orders are equally likely.
        rng: `numpy.random.Generator`. The same state gives the same order.
        most_bytes: Integer.
    """
    parts: dict[BoxedImage, list[int]] = {}
    for index, image in enumerate(images):
        parts.setdefault(image.whole, []).append(index)
    if len(parts) == len(images):
        return rng.permutation(len(images))
    wholes = list(parts)
    groups: list[list[int]] = [[]]
    room = most_bytes
    for number in rng.permutation(len(wholes)):
        whole = wholes[number]
        needed = 3 * whole.size_hw[0] * whole.size_hw[1]
        if needed > room and groups[-1]:
            groups.append([])
            room = most_bytes
        groups[-1] += parts[whole]
        room -= needed
    return np.concatenate([rng.permutation(group) for group in groups])
