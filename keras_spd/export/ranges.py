"""Measures the ranges of activations on calibration images, without outliers."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_spd.typing import Array

_log = logging.getLogger(__name__)
# A sample is an outlier if in 5 % of the tensors its largest value is more than 10 times that of
# 95 % of the samples. In the shipped ResNet50-SPD, one of 300 training images reaches 20 times, and
# the 8-bit file that counted it lost 0.67 points of accuracy instead of 0.25.
_TIMES = 10
_SHARE_OF_SAMPLES = 95  # percent
_SHARE_OF_TENSORS = 5  # percent
_ENOUGH_SAMPLES = 20


def measure_ranges(
    content: bytes, recipe: Any, samples: list[Array], without_outliers: bool
) -> dict[str, Any]:
    """Returns the smallest and largest value of each tensor over all samples.

    Args:
        content: Bytes of a float32 TFLite file with one signature and one input.
        recipe: `litert_quantizer.recipe_manager.RecipeManager`.
        samples: List of arrays, the input of the file in each step.
        without_outliers: Whether to leave out samples with far larger activations than others.

    Returns:
        `{tensor: {"min": array, "max": array}}`, arrays of one element.
    """
    from litert_quantizer import calibrator

    # By default, ranges are moving averages, which cut off what few images have.
    with silent():
        work = calibrator.Calibrator(
            content,
            num_threads=2,
            mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
            qsv_update_func=_append,
        )
    ((name, signature),) = work.get_signature_list().items()
    [argument] = signature["inputs"]
    with silent():
        work.calibrate({name: [{argument: batch} for batch in samples]}, recipe)
    measured = work.get_model_qsvs()
    largest = [np.maximum(-found["min"], found["max"]) for found in measured.values()]
    outliers = find_outliers(np.stack(largest, axis=1)) & without_outliers
    if outliers.any():
        _log.warning(
            "%d of %d calibration samples (the first is number %d, from 0) have activations %d "
            "times as large as the others. They do not count for the ranges of 8 bits.",
            outliers.sum(),
            len(samples),
            outliers.argmax(),
            _TIMES,
        )
    return {
        tensor: {
            "min": found["min"][~outliers].min(keepdims=True),
            "max": found["max"][~outliers].max(keepdims=True),
        }
        for tensor, found in measured.items()
    }


def find_outliers(largest: Array) -> Array:
    """Returns which samples have far larger activations than the others.

    Args:
        largest: Array `(samples, tensors)`, the largest absolute value of each.

    Returns:
        Boolean array `(samples,)`, false everywhere if there are fewer than 20 samples.
    """
    if len(largest) < _ENOUGH_SAMPLES:
        return np.zeros(len(largest), bool)
    usual = np.percentile(largest, _SHARE_OF_SAMPLES, axis=0)
    beyond = (largest > _TIMES * usual) & (usual > 0)
    return 100 * beyond.mean(axis=1) >= _SHARE_OF_TENSORS


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Drops what is written to stderr, such as progress bars, and a warning for developers."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
        yield


def _append(former: dict[str, Array], new: dict[str, Array]) -> dict[str, Array]:
    """Keeps the values of every sample."""
    return {bound: np.concatenate([former[bound], new[bound]]) for bound in ("min", "max")}
