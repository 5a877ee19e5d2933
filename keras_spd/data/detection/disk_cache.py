"""Keeps decoded images in a folder, so that later epochs and runs only map them into memory."""

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import math
import os
import pathlib
from collections.abc import Callable

import numpy as np

from keras_spd.data.detection.boxed_image import BoxedImage
from keras_spd.typing import Array

_log = logging.getLogger(__name__)
_VERSION = 1  # raise it when decoding changes
_numbers = itertools.count()


class DiskCache:
    """A folder of decoded images, one file of raw RGB pixels for each.

    The name of a file is a fingerprint of what the pixels depend on: path, size and modification
    time of the image file (or its bytes, if it has no path), and how it is decoded. A changed image
    is therefore decoded again. Several processes may share a folder.

    Args:
        folder: Path of the folder, which is created if needed.

    Raises:
        ValueError: If the folder cannot be created.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = pathlib.Path(folder).absolute()
        self._writes = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"The cache of decoded images needs a folder it can write to. Received: {folder} "
                f"({error.strerror})."
            ) from error

    def read(self, image: BoxedImage, decode: Callable[[], Array]) -> Array:
        """Returns the pixels of an image, from the folder if they are there.

        If they cannot be written, for example because the disk is full, it warns once and caches no
        more images.

        Args:
            image: The image.
            decode: Function that returns its pixels.

        Returns:
            uint8 array of shape `(height, width, 3)`, which may be read-only.
        """
        shape = (*image.size_hw, 3)
        try:
            path = self.folder / f"{_fingerprint(image)}.rgb"
        except OSError:  # the error of `decode` says what is wrong with the file
            return decode()
        with contextlib.suppress(OSError):
            if path.stat().st_size == math.prod(shape):
                return np.memmap(path, "uint8", "r", shape=shape)
        pixels = decode()
        if self._writes:
            self._write(path, pixels)
        return pixels

    def _write(self, path: pathlib.Path, pixels: Array) -> None:
        # Without fsync: after a crash, a file is shorter than its image, and written again.
        unfinished = path.with_name(f".unfinished-{os.getpid()}-{next(_numbers)}")
        try:
            pixels.tofile(unfinished)
            os.replace(unfinished, path)
        except OSError as error:
            self._writes = False
            unfinished.unlink(missing_ok=True)
            _log.warning(
                "%s cannot be written to (%s). No more decoded images are cached.",
                self.folder,
                error.strerror or error,
            )


def _fingerprint(image: BoxedImage) -> str:
    source = image.encoded()
    if isinstance(source, bytes):
        digest = hashlib.sha256(source)
    else:
        status = os.stat(source)
        parts = [os.path.abspath(source), status.st_size, status.st_mtime_ns]
        digest = hashlib.sha256(repr(parts).encode())
    digest.update(repr([_VERSION, image.size_hw, image.max_value]).encode())
    return digest.hexdigest()[:40]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CachedImage(BoxedImage):
    """An image whose decoded pixels are kept on disk.

    Args:
        disk: `DiskCache`.
    """

    disk: DiskCache

    def read(self) -> Array:
        """Returns the pixels, a read-only uint8 array of shape `(height, width, 3)`."""
        return self.disk.read(self, super().read)


def cached(images: tuple[BoxedImage, ...], folder: str | os.PathLike) -> tuple[BoxedImage, ...]:
    """Returns the images with their pixels kept in a folder; tiles are cut from cached images."""
    disk = DiskCache(folder)
    fields = [field.name for field in dataclasses.fields(BoxedImage)]
    wholes = {
        whole: CachedImage(**{name: getattr(whole, name) for name in fields}, disk=disk)
        for whole in dict.fromkeys(image.whole for image in images)
    }
    return tuple(image.part_of(wholes[image.whole]) for image in images)
