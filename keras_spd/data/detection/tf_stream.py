"""`DetectionBatches` as a `tf.data.Dataset`. Imports TensorFlow where it is used."""

import atexit
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from keras_spd.data.detection.batches import BATCHES_AHEAD, DetectionBatches


class _Calls:
    """Counts calls from TensorFlow's threads, which must finish before the interpreter shuts down.

    A half-read stream in a global variable is only deleted after the shutdown. It would then wait
    for a call in progress, and the call for the interpreter: a deadlock.
    """

    def __init__(self) -> None:
        self._running = 0
        self._changes = threading.Condition()
        self._ended = False
        atexit.register(self.end)

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self._changes:
            if self._ended:
                raise RuntimeError("The interpreter is shutting down.")
            self._running += 1
        try:
            return function(*arguments)
        finally:
            with self._changes:
                self._running -= 1
                self._changes.notify_all()

    def end(self) -> None:
        """Refuses further calls, and waits for those in progress."""
        with self._changes:
            self._ended = True
            self._changes.wait_for(lambda: not self._running)
        time.sleep(0.05)  # until the last calls have returned to TensorFlow


_calls = _Calls()


def to_tf_data(batches: DetectionBatches, epochs: int | None = None) -> Any:
    """Returns batches as a `tf.data.Dataset`.

    Args:
        batches: `DetectionBatches`.
        epochs: As in `DetectionData.batches`.
    """
    import tensorflow as tf

    height, width = batches.image_size if len(batches.image_sizes) == 1 else (None, None)
    pixels = tf.uint8 if batches.preprocess is None else tf.float32

    # TensorFlow never frees the function, which must not keep decoded images and threads.
    kept = weakref.ref(batches)

    def make(epoch: Any, batch: Any) -> Any:
        found = kept()
        if found is None:
            # A deleted iterator still reads ahead. TensorFlow prints other errors, although no one
            # gets this batch.
            raise StopIteration("The stream of these batches has been deleted.")
        return _calls(found.load, epoch, batch)

    def load(epoch: Any, batch: Any) -> Any:
        types = (pixels, tf.float32, tf.int32)
        images, boxes, classes = tf.numpy_function(make, (epoch, batch), types)
        images.set_shape((None, height, width, 3))
        boxes.set_shape((None, None, 4))
        classes.set_shape((None, None))
        return images, {"boxes": boxes, "classes": classes}

    def one_epoch(epoch: Any) -> Any:
        numbers = tf.data.Dataset.range(len(batches))
        return numbers.map(lambda batch: load(epoch, batch), num_parallel_calls=BATCHES_AHEAD)

    if epochs is None:  # each iteration is the next epoch
        counter = itertools.count(batches.epoch)
        numbers = tf.data.Dataset.from_generator(
            lambda: iter([next(counter)]), output_signature=tf.TensorSpec((), "int64")
        )
    else:
        numbers = tf.data.Dataset.range(batches.epoch, batches.epoch + epochs)
    stream = numbers.flat_map(one_epoch)
    if epochs is None:
        stream = stream.apply(tf.data.experimental.assert_cardinality(len(batches)))
    stream = stream.prefetch(BATCHES_AHEAD)
    stream.batches = batches  # what is derived from the stream also keeps them
    return stream
