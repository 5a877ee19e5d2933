"""Images in batches, of sizes that a network or a file is made for."""

import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_spd.typing import Array


def standardize_images(images: Any) -> Iterable[Any]:
    """Returns one image as a list of one, and several as they are.

    Args:
        images: Path, bytes, image of Pillow or array of rank 2 or 3 (one image); array of rank 4
            (a batch) or any other iterable (several).

    Returns:
        Iterable of whatever `keras_spd.images.to_rgb` takes.

    Raises:
        ValueError: If it is neither.

    Example:

    >>> standardize_images("cat.jpg")
    ['cat.jpg']
    """
    if isinstance(images, (str, bytes, os.PathLike, Image.Image)):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim < 4:
        return [images]
    if isinstance(images, dict) or not isinstance(images, Iterable):
        raise ValueError(
            "`images` must be an image or an iterable of images: paths, bytes, images of Pillow, "
            f"and uint8 or uint16 arrays. Received: {type(images).__name__}."
        )
    return images


def in_batches(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yields lists of `size` images; the last one may be shorter."""
    images = iter(images)
    while batch := list(itertools.islice(images, size)):
        yield batch


def run_in_batches(
    run: Callable[[Array], dict[str, Array]], images: Array, sizes: Collection[int]
) -> dict[str, Array]:
    """Runs as many images as there are on a file that takes a fixed number at once, or several.

    Args:
        run: Function from an array of as many images as one of `sizes` to a dictionary of arrays.
        images: Array of shape `(images, height, width, channels)`.
        sizes: Integers. The largest that is not too large is taken; images of zeros make up for
            missing ones.

    Returns:
        Dictionary of arrays, the outputs for all images.

    Raises:
        ValueError: If there is no image.
    """
    if not len(images):
        raise ValueError("There must be an image at least. Received: none.")
    found, start = [], 0
    while start < len(images):
        left = len(images) - start
        size = max((size for size in sizes if size <= left), default=min(sizes))
        batch = images[start : start + size]
        outputs = run(fill(batch, size))
        found.append({name: array[: len(batch)] for name, array in outputs.items()})
        start += size
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def fill(batch: Array, size: int) -> Array:
    """Returns an array of `size` images, those behind the last one of zeros."""
    missing = np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)
    return np.concatenate([batch, missing]) if len(missing) else batch


class BatchSizes:
    """Keeps the number of batch sizes small that Keras compiles a network for.

    Args:
        model: Keras model; or one that is not compiled, for which any size will do.
    """

    def __init__(self, model: Any) -> None:
        self.compiles = isinstance(model, keras.Model)
        self.seen: set[int] = set()

    def fill(self, batch: Array) -> Array:
        """Returns a batch as large as one before it, if that is possible."""
        size = min((size for size in self.seen if size >= len(batch)), default=len(batch))
        if self.compiles:
            self.seen.add(size)
            batch = fill(batch, size)
        return batch
