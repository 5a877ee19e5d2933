"""What a network costs: multiply-adds on paper, time and memory on this machine."""

from keras_spd.benchmark.latency import Measurement as Measurement
from keras_spd.benchmark.latency import measure_files as measure_files
