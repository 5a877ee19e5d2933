"""Names for shell completion, read from file names and one table: Keras is not imported."""

import pathlib
import tomllib

from keras_spd import variants

_PACKAGE = pathlib.Path(__file__).parents[1]


def networks(incomplete: str) -> list[str]:
    """Returns the networks that `keras-spd train` takes."""
    names = [f"resnet{depth}_spd" for depth in variants.RESNETS]
    return _starting(incomplete, names + [f"yolov5_spd_{size}" for size in variants.YOLOV5S])


def recipes(incomplete: str) -> list[str]:
    """Returns the recipes of the package."""
    files = (_PACKAGE / "training" / "recipes").glob("*.toml")
    return _starting(incomplete, sorted(file.stem for file in files))


def weights(incomplete: str) -> list[str]:
    """Returns the names of the weights that come with the package."""
    files = (_PACKAGE / "weights" / "presets").glob("*.toml")
    names = {tomllib.loads(file.read_text(encoding="utf-8"))["name"] for file in files}
    return _starting(incomplete, sorted(names))


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
