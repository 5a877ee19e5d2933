"""What a network costs: multiply-adds on paper, time and memory on this machine."""

from keras_spd.benchmark.cost import count_multiply_adds as count_multiply_adds
from keras_spd.benchmark.cost import multiply_adds_at as multiply_adds_at
from keras_spd.benchmark.latency import Measurement as Measurement
from keras_spd.benchmark.latency import measure_files as measure_files
