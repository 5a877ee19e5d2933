"""Loads weights into our networks: from files, presets and the authors' PyTorch state dicts."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.weights.loading import check_weights_file as check_weights_file
    from keras_spd.weights.loading import load_torch_weights as load_torch_weights
    from keras_spd.weights.loading import load_weights as load_weights
    from keras_spd.weights.presets import Preset as Preset
    from keras_spd.weights.presets import find_named as find_named
    from keras_spd.weights.presets import find_preset as find_preset
    from keras_spd.weights.presets import list_models as list_models
    from keras_spd.weights.presets import load_preset as load_preset

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "check_weights_file": "keras_spd.weights.loading",
        "load_torch_weights": "keras_spd.weights.loading",
        "load_weights": "keras_spd.weights.loading",
        "Preset": "keras_spd.weights.presets",
        "find_named": "keras_spd.weights.presets",
        "find_preset": "keras_spd.weights.presets",
        "list_models": "keras_spd.weights.presets",
        "load_preset": "keras_spd.weights.presets",
    },
)
