"""Names for shell completion, without importing Keras."""

from keras_spd import variants
from keras_spd.training.recipe_files import list_recipes
from keras_spd.weights.presets import list_models


def networks(incomplete: str) -> list[str]:
    """Returns the names of networks."""
    names = [f"resnet{depth}_spd" for depth in variants.RESNETS]
    return _starting(incomplete, names + [f"yolov5_spd_{size}" for size in variants.YOLOV5S])


def recipes(incomplete: str) -> list[str]:
    """Returns the names of shipped recipes."""
    return _starting(incomplete, list_recipes())


def weights(incomplete: str) -> list[str]:
    """Returns the names of shipped weights."""
    return _starting(incomplete, [preset.short_name for preset in list_models()])


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
