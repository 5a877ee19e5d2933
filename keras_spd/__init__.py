"""keras_spd: networks for low-resolution images and small objects, without strides or pooling."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach, is_command_line
from keras_spd.machine import use_onednn
from keras_spd.version import __version__ as __version__

if TYPE_CHECKING:
    from keras_spd import applications as applications
    from keras_spd import benchmark as benchmark
    from keras_spd import data as data
    from keras_spd import detection as detection
    from keras_spd import explain as explain
    from keras_spd import export as export
    from keras_spd import layers as layers
    from keras_spd import metrics as metrics
    from keras_spd import optimizers as optimizers
    from keras_spd import predict as predict
    from keras_spd import surgery as surgery
    from keras_spd import training as training
    from keras_spd.predict import Predictor as Predictor
    from keras_spd.predict import evaluate as evaluate
    from keras_spd.surgery.fold import fold as fold
    from keras_spd.surgery.quantize_aware import quantize_aware as quantize_aware
    from keras_spd.surgery.to_spd import to_spd as to_spd
    from keras_spd.weights import list_models as list_models

_MODULES = (
    "applications",
    "benchmark",
    "data",
    "detection",
    "explain",
    "export",
    "layers",
    "metrics",
    "optimizers",
    "predict",
    "surgery",
    "training",
)
__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        **dict.fromkeys(_MODULES, ""),
        "Predictor": "keras_spd.predict",
        "evaluate": "keras_spd.predict",
        "fold": "keras_spd.surgery",
        "quantize_aware": "keras_spd.surgery",
        "to_spd": "keras_spd.surgery",
        "list_models": "keras_spd.weights",
    },
)

use_onednn()
if not is_command_line():  # registers our classes for `keras.saving.load_model`
    from keras_spd import registered as registered
