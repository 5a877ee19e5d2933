"""Threads that read and resize images, in order and with bounded memory.

Threads suffice, because Pillow, OpenCV and NumPy release Python's lock while they work on pixels.
"""

import collections
import contextlib
import ctypes
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from keras_spd.checks import check_integer

_MOST = 16  # more threads than this were not measured
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def default_workers() -> int:
    """Returns the number of CPU cores that this process may use, at most 16."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST)
    return min(os.cpu_count() or 1, _MOST)


def check_workers(workers: int | None) -> int:
    """Returns a valid number of threads, `default_workers()` for `None`."""
    return default_workers() if workers is None else check_integer("workers", workers)


def make_pool(workers: int) -> ThreadPoolExecutor:
    """Returns a pool of threads for work on images."""
    keep_freed_memory()
    return ThreadPoolExecutor(workers, thread_name_prefix="keras_spd_images")


def keep_freed_memory() -> None:
    """Tells glibc to keep up to 256 MiB of freed memory in the process.

    By default, glibc returns the memory of each image to the system, and every image faults its
    pages in again, which took 4 ms of system time at 640 px (benchmarks/training.md). Call this
    for each batch: TensorFlow resets the setting when it starts.
    """
    mallopt = _mallopt()
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 256 * 2**20)
        mallopt(_MMAP_THRESHOLD, 32 * 2**20)


@functools.cache
def _mallopt() -> Any:
    return getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None


class MemoryLimit:
    """Limits how much memory threads use at the same time.

    Args:
        most_bytes: Integer, the limit. A task that needs more runs alone.

    Example:

    >>> with decoding(7 * height * width):
    ...     pixels = read_image("large.jpg")
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._used = 0
        self._changes = threading.Condition()

    @contextlib.contextmanager
    def __call__(self, needed: int) -> Iterator[None]:
        """Waits until `needed` bytes are free, and takes them inside the context."""
        if not needed:
            yield
            return
        with self._changes:
            self._changes.wait_for(
                lambda: not self._used or self._used + needed <= self._most_bytes
            )
            self._used += needed
        try:
            yield
        finally:
            with self._changes:
                self._used -= needed
                self._changes.notify_all()


decoding = MemoryLimit(2**30)  # shared by everything that reads images in threads


def map_ahead(
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    most: int | None = None,
    workers: int | None = None,
) -> Iterator[_Out]:
    """Applies a function to items in threads, ahead of the caller, and yields results in order.

    Args:
        function: Function of one item.
        items: Iterable, which only the caller's thread reads, ahead of the results.
        most: Integer, how many results are in memory at most; `None` for two per thread. 0 uses
            no threads and reads nothing ahead.
        workers: Integer, the number of threads, or `None` for `default_workers()`.

    Yields:
        The results. An error of `function` or `items` is raised instead of its result, after all
        earlier results.

    Example:

    >>> pictures = map_ahead(to_rgb, ["a.jpg", "b.jpg"])
    """
    if most == 0:
        yield from map(function, items)
        return
    workers = check_workers(workers)
    most = most or 2 * workers
    waiting: collections.deque[Future[_Out]] = collections.deque()
    items, error, more = iter(items), None, True
    pool = make_pool(workers)
    try:
        while True:
            while more and len(waiting) < most:
                try:
                    waiting.append(pool.submit(function, next(items)))
                except StopIteration:
                    more = False
                except Exception as stopped:
                    error, more = stopped, False
            if not waiting:
                break
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
    if error is not None:
        raise error
