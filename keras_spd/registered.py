"""Imports every module with classes that Keras finds by name when it loads a model.

`import keras_spd` imports this module, except in the process of the command line, where
`keras_spd.predict` and `keras_spd.training` do.
"""

from keras_spd import fast_layers as fast_layers
from keras_spd import image_model as image_model
from keras_spd import layers as layers
from keras_spd import losses as classification_losses  # noqa: F401
from keras_spd import optimizers as optimizers
from keras_spd.applications import yolo_blocks as yolo_blocks
from keras_spd.detection import detector as detector
from keras_spd.detection import losses as losses
from keras_spd.surgery import layers as surgery_layers  # noqa: F401
from keras_spd.surgery import quantize_aware  # noqa: F401
