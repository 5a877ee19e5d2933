"""Measures the time and memory of model files on this machine."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.benchmark.latency import Measurement as Measurement
    from keras_spd.benchmark.latency import measure_files as measure_files

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Measurement": "keras_spd.benchmark.latency",
        "measure_files": "keras_spd.benchmark.latency",
    },
)
