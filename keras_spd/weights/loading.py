"""Loads weights into models strictly: every error says what does not fit."""

import dataclasses
import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_spd.detection.anchors import level_stride, standardize_anchors
from keras_spd.detection.detector import Detector
from keras_spd.files import check_h5, check_zip, shorten
from keras_spd.image_model import list_names
from keras_spd.typing import Array, Path
from keras_spd.weights.keras_file import check_finite
from keras_spd.weights.maps import Identity, identify_resnet, resnet_map
from keras_spd.weights.reader import TORCH_SUFFIXES, Checkpoint, read_checkpoint
from keras_spd.weights.yolov5 import identify_yolov5, yolov5_map


def load_weights(model: keras.Model, weights: Path | None) -> None:
    """Loads the file named by a constructor's `weights` argument.

    Args:
        model: `ImageModel` or `Detector` of this library.
        weights: `None` to change nothing, or the path of a `.weights.h5`, `.keras`,
            `.safetensors`, `.pt` or `.pth` file.

    Raises:
        ValueError: If the file does not exist or does not fit the model.
    """
    if weights is None:
        return
    path = check_weights_file(weights)
    if path.name.endswith((".weights.h5", ".keras")):
        (check_zip if path.suffix == ".keras" else check_h5)(path)
        try:
            _load_keras_weights(model, path)
        except Exception as error:  # incomplete files raise many types
            raise ValueError(
                f"{path} does not fit `{model.name}`, or it is damaged: {shorten(error)}"
            ) from error
        check_finite(model, path)
    else:
        load_torch_weights(model, path)


def _load_keras_weights(model: keras.Model, path: pathlib.Path) -> None:
    """Loads one of Keras' files. Keras also warns of the layers that its error names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping nested container")
        model.load_weights(path)


def check_weights_file(weights: Path) -> pathlib.Path:
    """Returns `weights` as a path, or raises a `ValueError` if it cannot be a file of weights."""
    refuse_hub_address(weights)
    path = pathlib.Path(weights)
    accepted = (
        "`weights` is `None`, a name from `keras_spd.list_models`, or the path of a `.weights.h5`, "
        "`.keras`, `.safetensors`, `.pt` or `.pth` file."
    )
    if not path.is_file():
        raise ValueError(
            f"There is no file {path}, and there are no weights of that name. {accepted}"
        )
    if not path.name.endswith((".weights.h5", ".keras", ".safetensors", *TORCH_SUFFIXES)):
        raise ValueError(f"Cannot read weights from {path}: {accepted}")
    return path


def refuse_hub_address(weights: Path) -> None:
    """Raises a `ValueError` for an address on the Hugging Face Hub, which holds a whole model."""
    if match := re.match("hf:/+(.+)", str(weights)):  # a `pathlib.Path` has one slash
        raise ValueError(
            f"`weights` must be a local file. Received: hf://{match[1]}. Load the whole model with "
            f'`keras.saving.load_model("hf://{match[1]}")`, after `import keras_spd`, or train it '
            f"with `keras-spd train --model hf://{match[1]}`."
        )


def load_torch_weights(
    model: keras.Model, source: Checkpoint | Path | Mapping[str, Any]
) -> keras.Model:
    """Loads weights of the authors' PyTorch code into a network.

    Args:
        model: A ResNet or `YOLOV5SPD` of `keras_spd.applications`, of any size, SPD or strided.
        source: Mapping of PyTorch state-dict names to arrays, or the path of a `.safetensors`,
            `.pt` or `.pth` file; nothing in it is executed. If a checkpoint has averaged (EMA)
            weights, those are loaded. A classifier in the source is ignored if the model has none.
            A detector also gets the anchors and, unless it has its own, the class names. With a
            single class, confidence stays objectness times class probability, as in the authors'
            code (`YOLOV5Head.single_class_logit`).

    Returns:
        The model.

    Raises:
        ValueError: If the arrays do not fit the model. It lists the first differences and, if the
            state dict belongs to another network, the constructor to use. The model is unchanged.

    Example:

    >>> model = keras_spd.applications.ResNet50SPD(weights=None, classes=10)
    >>> keras_spd.applications.load_torch_weights(model, "resnet50_spd.safetensors")
    """
    checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
    arrays = checkpoint.arrays
    try:
        detector = isinstance(model, Detector)
        entries = yolov5_map(model.network) if detector else resnet_map(model)
    except (ValueError, AttributeError, KeyError) as error:
        raise ValueError(
            "`load_torch_weights` supports the ResNets and `YOLOV5SPD` of "
            "`keras_spd.applications`, in the sizes of the authors' code. "
            f"Received: model named {getattr(model, 'name', model)!r}. {error}"
        ) from error
    all_arrays = arrays  # for the error message
    if detector:
        arrays, anchors = _split_anchors(arrays, model)
    if "fc.weight" not in entries:
        arrays = {name: a for name, a in arrays.items() if not name.startswith("fc.")}

    differences = [
        f"  - {name} {entry.shape}: missing from the source"
        for name, entry in entries.items()
        if name not in arrays
    ]
    differences += [
        f"  + {name} {array.shape}: not in the model"
        for name, array in arrays.items()
        if name not in entries
    ]
    differences += [
        f"  ! {name}: {entry.shape} in the model, {arrays[name].shape} in the source"
        for name, entry in entries.items()
        if name in arrays and arrays[name].shape != entry.shape
    ]
    if differences:
        raise ValueError(_misfit(model, all_arrays, differences))

    names = checkpoint.class_names if detector else None
    if names and model.info.class_names not in (None, names):
        raise ValueError(
            f"The file has the classes {list_names(names)}, the model "
            f"{list_names(model.info.class_names or ())}. Pass the file as `weights` to "
            "`YOLOV5SPD`, which matches classes by name."
        )
    for name, entry in entries.items():
        entry.variable.assign(entry.convert(arrays[name]))
    if detector:
        one_class = model.num_classes == 1  # whose logit the authors' code uses
        model.head = dataclasses.replace(model.head, single_class_logit=one_class)
    if detector and anchors is not None:
        model.anchors = anchors
    if names and model.info.class_names is None and len(names) == model.num_classes:
        model.info = dataclasses.replace(model.info, class_names=names)
    return model


def identify(state_dict: Mapping[str, Array]) -> Identity | None:
    """Returns the `Identity` of the authors' network with this state dict, or `None`."""
    return identify_resnet(state_dict) or identify_yolov5(state_dict)


def _split_anchors(
    arrays: Mapping[str, Array], model: Detector
) -> tuple[dict[str, Array], dict[str, Any] | None]:
    """Splits off the anchors of the authors' `Detect`. Returns the other arrays, and the anchors.

    The anchors are returned in pixels; the authors store them in units of the stride. Older
    checkpoints have a redundant second copy.
    """
    rest: dict[str, Array] = {}
    anchors = None
    for name, array in arrays.items():
        if name.endswith(".anchors") and array.ndim == 3 and len(array) == len(model.levels):
            strides = [level_stride(level) for level in model.levels]
            pixels = array.astype("float32") * np.reshape(strides, (-1, 1, 1))
            anchors = standardize_anchors(
                dict(zip(model.levels, pixels, strict=True)), model.levels
            )
        elif not name.endswith(".anchor_grid"):
            rest[name] = array
    return rest, anchors


def _misfit(model: keras.Model, state_dict: Mapping[str, Array], differences: list[str]) -> str:
    message = [f"The state dict does not fit `{model.name}`."]
    if call := identify(state_dict):
        message.append(f"It fits `{call}`.")
    shown = differences[:5]
    message.append(f"The first {len(shown)} of {len(differences)} differences:")
    return " ".join(message) + "\n" + "\n".join(shown)
