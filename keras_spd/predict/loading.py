"""Loads trained models from files, or by name from the package."""

import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import keras

from keras_spd import applications, registered  # noqa: F401 (classes in files)
from keras_spd.detection.protocol import DetectorProtocol
from keras_spd.export.exported_models import RUNTIMES, load_exported
from keras_spd.typing import Path
from keras_spd.weights import find_named, list_models
from keras_spd.weights.keras_file import load_from_hub, load_keras_file
from keras_spd.weights.presets import NO_IMAGENET


def load_model(path: Path) -> keras.Model:
    """Loads a model from a file, or a pretrained one by name.

    Args:
        path: Path of a `.keras` file, or of a `.pt`, `.pth` or `.safetensors` file that
            `load_torch_model` reads; a name from `keras_spd.list_models`; or `"hf://USER/NAME"`, a
            model on the Hugging Face Hub.

    Returns:
        Keras model, such as a `Detector` or an `ImageModel`.

    Raises:
        ValueError: If the file cannot be loaded, or is missing; the message names it.

    Example:

    >>> model = keras_spd.predict.load_model("runs/boards/model.keras")
    """
    if preset := find_named(path):
        return getattr(applications, preset.architecture)(weights=preset.name, **preset.options)
    if match := re.fullmatch("hf:/+(.+)", str(path)):  # a `pathlib.Path` has one slash
        return load_from_hub(f"hf://{match[1]}")
    path = pathlib.Path(path)
    if path.name.endswith(".weights.h5"):
        raise ValueError(
            f"Cannot load a model from {path}: it only holds weights. The model is `model.keras` "
            f"in the run folder, which is written when the run ends: "
            f"`keras-spd train --resume --run {path.parent}`."
        )
    if path.suffix in (".pt", ".pth", ".safetensors"):
        return applications.load_torch_model(path)
    if str(path) == "imagenet":
        raise ValueError(NO_IMAGENET)
    if path.suffix != ".keras":
        names = ", ".join(preset.short_name for preset in list_models())
        raise ValueError(
            f"Cannot load a model from {path}: it must be a .keras file, such as `model.keras` in "
            f"the run folder of `keras-spd train`, a .pt, .pth or .safetensors "
            f"file, or the name of shipped weights ({names})."
        )
    if not path.exists():
        raise ValueError(f"Cannot load a model from {path}: there is no such file.")
    return load_keras_file(path)


def load_models(paths: Path | Iterable[Path]) -> dict[str, keras.Model]:
    """Loads models as `load_model` does, and names them.

    Args:
        paths: What `load_model` accepts, or an iterable of it.

    Returns:
        `{name: model}`. A model is named after its file, or after its folder if the file is
        called `model.keras`. If two names are equal, all models are named by their paths.

    Raises:
        ValueError: If a model cannot be loaded, or a path is listed twice.

    Example:

    >>> keras_spd.predict.load_models(["runs/spd/model.keras", "runs/strided/model.keras"]).keys()
    dict_keys(['spd', 'strided'])
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    files = [pathlib.Path(path) for path in paths]
    if len(set(files)) < len(files):
        raise ValueError(f"The same model is given twice: {', '.join(map(str, files))}.")
    names = [(file.stem == "model" and file.parent.name) or file.stem for file in files]
    if len(set(names)) < len(names):
        names = [str(file) for file in files]
    return dict(zip(names, map(load_model, files), strict=True))


def load_any(path: Path) -> Any:
    """Loads a model as `load_model` does, or an exported file as `load_exported` does."""
    return (load_exported if pathlib.Path(path).suffix in RUNTIMES else load_model)(path)


def load_detector(path: Path) -> DetectorProtocol:
    """Loads a detector from a file, or a pretrained one by name.

    Args:
        path: As in `load_model`, or the path of a `.tflite` or `.onnx` file from `keras-spd export`
            or of a YOLO detector from Ultralytics.

    Returns:
        `Detector`, or another object that implements `DetectorProtocol`.

    Raises:
        ValueError: If the file cannot be loaded or holds no detector.

    Example:

    >>> detector = keras_spd.predict.load_detector("runs/boards/model_int8.tflite")
    """
    model = load_any(path)
    if not isinstance(model, DetectorProtocol):
        raise ValueError(f"{path} holds no detector, but a model of type {type(model).__name__}.")
    return model
