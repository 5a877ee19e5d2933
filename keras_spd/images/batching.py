"""Groups images into batches of the sizes that a network or an exported file accepts."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from keras_spd.checks import check_integer
from keras_spd.typing import Array

_PADDING = 64


def standardize_images(images: Any) -> Iterable[Any]:
    """Wraps a single image in a list, and returns several images unchanged.

    Args:
        images: One image (path, bytes, Pillow image, or array of rank 2 or 3), or several (array
            of rank 4, or any other iterable of images).

    Returns:
        Iterable of images that `keras_spd.images.to_rgb` accepts.

    Raises:
        ValueError: If `images` is not an image or an iterable.

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
            "`images` must be an image or an iterable of images: paths, bytes, Pillow images, and "
            f"uint8 or uint16 arrays. Received: {type(images).__name__}."
        )
    return images


def in_batches(images: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yields lists of `size` images; the last list may be shorter.

    An error while reading an image is raised after the images before it.
    """
    size = check_integer("batch_size", size)
    batch = []
    try:
        for image in images:
            batch.append(image)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def run_in_batches(
    run: Callable[[Array], dict[str, Array]], images: Array, sizes: Collection[int]
) -> dict[str, Array]:
    """Runs any number of images through a file that only accepts certain batch sizes.

    Args:
        run: Function from an array of images, as many as one of `sizes`, to a dictionary of
            arrays.
        images: Array of shape `(images, height, width, channels)`.
        sizes: Integers, the accepted batch sizes. The largest one that can be filled is used;
            the last batch is padded with zeros.

    Returns:
        Dictionary of arrays, the outputs for all images.

    Raises:
        ValueError: If there are no images.
    """
    if not len(images):
        raise ValueError("`images` is empty; pass at least one image.")
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
    """Pads a batch with zeros to `size` images."""
    missing = np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)
    return np.concatenate([batch, missing]) if len(missing) else batch


class BatchSizes:
    """Limits the number of batch sizes that Keras compiles a network for.

    A batch is padded to an earlier size. Once that has cost more than `_PADDING` images, which is
    about what compiling costs, it is padded to the next power of two instead.

    Args:
        model: Keras model, or another model, whose batches are not padded.
    """

    def __init__(self, model: Any) -> None:
        import keras  # exported files run without it

        self.compiles = isinstance(model, keras.Model)
        self.seen: set[int] = set()
        self.padding = 0  # images so far

    def fill(self, batch: Array) -> Array:
        """Pads a batch to another batch size, if the model is compiled for each."""
        if not self.compiles:
            return batch
        size = min((size for size in self.seen if size >= len(batch)), default=len(batch))
        if self.padding + size - len(batch) > _PADDING:
            size = min(size, 1 << (len(batch) - 1).bit_length())
        self.padding += size - len(batch)
        self.seen.add(size)
        return fill(batch, size)
