"""keras_spd: networks for low-resolution images and small objects, without strides or pooling."""

from keras_spd import applications as applications
from keras_spd import data as data
from keras_spd import layers as layers
from keras_spd.version import __version__ as __version__
