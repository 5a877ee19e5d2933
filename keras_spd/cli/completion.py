"""Names for shell completion, without importing Keras or NumPy: a Tab is answered at once."""

import pathlib
import tomllib

from keras_spd import variants
from keras_spd.training.recipe_files import list_recipes

_PACKAGE = pathlib.Path(__file__).parents[1]


def networks(incomplete: str) -> list[str]:
    """Returns the names of networks."""
    names = [f"resnet{depth}_spd" for depth in variants.RESNETS]
    return _starting(incomplete, names + [f"yolov5_spd_{size}" for size in variants.YOLOV5S])


def recipes(incomplete: str) -> list[str]:
    """Returns the names of shipped recipes."""
    return _starting(incomplete, list_recipes())


def weights(incomplete: str) -> list[str]:
    """Returns the names of shipped weights, as `Preset.short_name` does."""
    names: list[str] = []
    for file in sorted((_PACKAGE / "weights" / "presets").glob("*.toml")):
        name = tomllib.loads(file.read_text(encoding="utf-8"))["name"]
        names.append(file.stem if name in names else name)
    return _starting(incomplete, names)


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
