"""Trained models from files, and from the package by their names."""

import pathlib

from keras_spd import applications, registered  # noqa: F401 (classes in files)
from keras_spd.detection.protocol import DetectorProtocol
from keras_spd.export.tflite_models import load_tflite
from keras_spd.weights import list_models
from keras_spd.weights.keras_file import load_keras_file


def load_model(path):
    """Loads a model from a `.keras` or PyTorch file, or trained weights of the package by name.

    `.pt`, `.pth` and `.safetensors` are those that `load_reference_model` reads.

    Raises:
        ValueError: If there are none, or several, or the file cannot be loaded; it names the file.
    """
    presets = [preset for preset in list_models() if preset.name == str(path)]
    if len(presets) == 1:
        return getattr(applications, presets[0].architecture)(
            weights=presets[0].name, **presets[0].options
        )
    path = pathlib.Path(path)
    if path.name.endswith(".weights.h5"):
        raise ValueError(
            f"Cannot load a model from {path}: it holds weights alone. The model is `model.keras` "
            f"in a run folder, which is written when the run ends: "
            f"`keras-spd train --resume --run {path.parent}`."
        )
    if path.suffix in (".pt", ".pth", ".safetensors"):
        return applications.load_reference_model(path)
    if path.suffix != ".keras":
        names = ", ".join(sorted({preset.name for preset in list_models()}))
        raise ValueError(
            f"Cannot load a model from {path}: it must be a .keras file, such as `model.keras` in "
            f"the run folder of `keras-spd train`, a .pt, .pth or .safetensors "
            f"file, or one of the weights that come with the package ({names})."
        )
    if not path.exists():
        raise ValueError(f"Cannot load a model from {path}: there is no such file.")
    return load_keras_file(path)


def load_models(paths):
    """Loads models as `load_model` does, and names them.

    Returns:
        `{name: model}`: names are file names, for a `model.keras` that of its folder; or the whole
        paths, where these names are the same.

    Raises:
        ValueError: If one cannot be loaded, or the same path comes twice.
    """
    paths = [pathlib.Path(path) for path in paths]
    if len(set(paths)) < len(paths):
        raise ValueError(f"The same model comes twice: {', '.join(map(str, paths))}.")
    names = [(path.stem == "model" and path.parent.name) or path.stem for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return dict(zip(names, map(load_model, paths), strict=True))


def load_detector(path):
    """Loads a detector as `load_model` does, or from a `.tflite` file as `load_tflite` does."""
    model = (load_tflite if pathlib.Path(path).suffix == ".tflite" else load_model)(path)
    if not isinstance(model, DetectorProtocol):
        raise ValueError(f"{path} is not a detector of keras_spd, but a {type(model).__name__}.")
    return model
