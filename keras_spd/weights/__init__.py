"""Weights from files and from the authors' PyTorch state dicts, into our networks."""

from keras_spd.weights.loading import check_weights_file as check_weights_file
from keras_spd.weights.loading import load_reference_weights as load_reference_weights
from keras_spd.weights.loading import load_weights as load_weights
from keras_spd.weights.presets import Preset as Preset
from keras_spd.weights.presets import find_preset as find_preset
from keras_spd.weights.presets import list_models as list_models
from keras_spd.weights.presets import load_preset as load_preset
