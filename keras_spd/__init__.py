"""keras_spd: networks for low-resolution images and small objects, without strides or pooling."""

import importlib
import os

from keras_spd.version import __version__ as __version__

# A shell that completes the command `keras-spd` is not to wait for TensorFlow.
if "_KERAS_SPD_COMPLETE" not in os.environ:
    from keras_spd import applications as applications
    from keras_spd import benchmark as benchmark
    from keras_spd import data as data
    from keras_spd import detection as detection
    from keras_spd import explain as explain
    from keras_spd import export as export
    from keras_spd import layers as layers
    from keras_spd import metrics as metrics
    from keras_spd import predict as predict
    from keras_spd import surgery as surgery
    from keras_spd.predict import Predictor as Predictor
    from keras_spd.predict import evaluate as evaluate
    from keras_spd.surgery import fold as fold
    from keras_spd.surgery import to_spd as to_spd
    from keras_spd.weights import list_models as list_models


def __getattr__(name):
    # Recipes need pydantic, which the layers and networks are not to wait for.
    if name == "training":
        return importlib.import_module("keras_spd.training")
    raise AttributeError(f"module 'keras_spd' has no attribute {name!r}")
