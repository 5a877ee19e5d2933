"""COCO's scores of a detector on batches, for `Detector.evaluate`."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_spd.detection.decoding import Decoder

_SCORES = ("AP", "AP50", "AP_small")


def average_precision(detector: Any, batches: Iterable[tuple[Any, Any]]) -> dict[str, float]:
    """Returns COCO's `AP`, `AP50` and `AP_small`, with sizes in network pixels.

    Args:
        detector: `Detector`. Its decoder is replaced by that of COCO's scores for the call.
        batches: Iterable of `(images, ground truth)`.
    """
    from keras_spd.metrics.batch_evaluation import evaluate_batches

    def predict(images: Any) -> Any:  # of any framework, which JAX' step does not take
        return detector.predict_on_batch(keras.ops.convert_to_numpy(images))

    former, detector.decoder = detector.decoder, Decoder(0.001, 0.65)
    try:
        scores = evaluate_batches(
            ((predict(images), truth, images.shape) for images, truth in batches),
            detector.num_classes,
            detector.bounding_box_format,
        )
    finally:
        detector.decoder = former
    return {name: scores.metrics[name] for name in _SCORES}


def split_into_batches(
    x: Any, y: Any, batch_size: int, steps: int | None
) -> Iterator[tuple[Any, Any]]:
    """Yields `(images, ground truth)` from the data of `evaluate`: arrays or iterables."""
    if y is not None:
        for start in range(0, len(x), batch_size)[:steps]:
            rows = slice(start, start + batch_size)
            yield x[rows], {key: value[rows] for key, value in y.items()}
        return
    count = len(x) if isinstance(x, keras.utils.PyDataset) else None
    batches = (x[index] for index in range(count)) if count is not None else x
    yield from itertools.islice(batches, steps)
