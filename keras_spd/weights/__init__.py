"""Weights from files and from the authors' PyTorch state dicts, into our networks."""

from keras_spd.weights.loading import load_reference_weights as load_reference_weights
from keras_spd.weights.loading import load_weights as load_weights
