"""Keeps decoded images in memory for several threads, up to a number of bytes."""

import collections
import threading
from concurrent.futures import Future
from typing import Protocol

import numpy as np

from keras_spd.images.read import bytes_to_read
from keras_spd.images.workers import decoding
from keras_spd.typing import Array


class Readable(Protocol):
    """An image that can be read, such as a `BoxedImage`."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""

    def read(self) -> Array:
        """Returns the pixels, a uint8 array."""


class ImageCache:
    """The images that were used last. Each is read once, even if several threads want it.

    Images that are mapped from a file are not kept.

    Args:
        most_bytes: Integer. The images that were not used for the longest time are dropped first.

    Example:

    >>> cache = ImageCache(2**30)
    >>> pixels = cache(data.images[0])
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._images: collections.OrderedDict[Readable, Future[Array]] = collections.OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def __call__(self, image: Readable) -> Array:
        """Returns the pixels of an image, which the caller must not change.

        Errors of reading reach every thread that waits for the image, and are not kept.
        """
        with self._lock:
            kept = self._images.get(image)
            if kept is not None:
                self._images.move_to_end(image)
            else:
                reading = self._images[image] = Future()
        if kept is not None:
            return kept.result()  # waits for the thread that reads it
        try:
            with decoding(bytes_to_read(image.size_hw)):
                pixels = image.read()
        except BaseException as error:
            with self._lock:
                del self._images[image]
            reading.set_exception(error)
            raise
        with self._lock:
            reading.set_result(pixels)
            if isinstance(pixels, np.memmap):  # the system caches it; it holds a file open
                del self._images[image]
            else:
                self.bytes += pixels.nbytes
                self._drop()
        return pixels

    def _drop(self) -> None:
        for image in list(self._images) if self.bytes > self._most_bytes else ():
            if self.bytes <= self._most_bytes:
                break
            if self._images[image].done():
                self.bytes -= self._images.pop(image).result().nbytes
