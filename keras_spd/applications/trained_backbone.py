"""Loads the weights of a classifier into the same network without its head."""

import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import keras

from keras_spd.applications.trained import load_trained, read_arrays
from keras_spd.image_model import ImageModel
from keras_spd.typing import Array
from keras_spd.weights import Preset, check_weights_file, load_weights
from keras_spd.weights.paths import variables_by_path
from keras_spd.weights.resnet import arrays_for_spd

_log = logging.getLogger(__name__)


def start_from_classifier(
    model: ImageModel, weights: str | os.PathLike | None, preset: Preset | None = None
) -> None:
    """Loads weights into a ResNet without classifier and sets the normalisation in its `info`.

    Stages added by `ResNetSPDBackbone` keep their random weights, and layers after the last stage
    of the classifier are ignored. Strided stages are converted to SPD exactly. A strided stem has
    no SPD counterpart, so the SPD stem keeps its random weights.

    Args:
        model: `ImageModel` with layers `stem_...` and `stage...`.
        weights: The `weights` argument of its constructor: the name of a preset, a trained
            classifier as `.keras`, `.pt`, `.pth` or `.safetensors`, the same network without
            classifier as `.keras`, or `.weights.h5` of exactly this network.
        preset: The `Preset` with that name, if there is one.

    Raises:
        ValueError: If the file cannot be read or does not match. The model is left unchanged.
    """
    if weights is None:
        return
    trained = None
    if preset is not None:
        source, arrays = preset.name, preset.read()
        facts: dict[str, Any] = {"statistics": preset.statistics, "image_size": preset.image_size}
        model.info = dataclasses.replace(model.info, **facts)
    else:
        path = check_weights_file(weights)
        if path.name.endswith(".weights.h5"):
            return load_weights(model, path)
        trained = load_trained(path)
        _check_stem(model, trained, path)
        source = str(path)
        arrays = read_arrays(trained)
    _assign(model, arrays, source)
    if isinstance(trained, ImageModel):
        # Without its top, the network returns neither probabilities nor logits.
        preprocessing = dataclasses.replace(trained.info.preprocessing, outputs=None)
        model.info = dataclasses.replace(model.info, preprocessing=preprocessing)


def _assign(model: ImageModel, arrays: Mapping[str, Array], source: str) -> None:
    variables = variables_by_path(model.layers)
    arrays = arrays_for_spd(arrays, {path: tuple(v.shape) for path, v in variables.items()})
    known = {stage for path in arrays if (stage := _stage(path))}
    wanted = {path: v for path, v in variables.items() if _stage(path) in known}
    differences = [f"  - {path}: missing from the weights" for path in wanted if path not in arrays]
    differences += [
        f"  + {path}: not in the model"
        for path in arrays
        if _stage(path) is not None and path not in wanted
    ]
    differences += [
        f"  ! {path}: {tuple(variable.shape)} in the model, {arrays[path].shape} in the weights"
        for path, variable in wanted.items()
        if path in arrays and tuple(variable.shape) != arrays[path].shape
    ]
    if not known:
        raise ValueError(
            f"The weights {source} do not fit `{model.name}`: none of its layers is in the "
            "weights. Pass the weights of a ResNet of `keras_spd.applications`."
        )
    if differences:
        shown = "\n".join(differences[:5])
        raise ValueError(
            f"The weights {source} do not fit `{model.name}`. "
            f"The first {len(differences[:5])} of {len(differences)} differences:\n{shown}"
        )
    for path, variable in wanted.items():
        variable.assign(arrays[path])
    if fresh := sorted({stage for path in variables if (stage := _stage(path))} - known):
        _log.info(
            "Loaded %s into %s: all except %s, which %s initialised.",
            source,
            model.name,
            " and ".join(fresh),
            "is" if len(fresh) == 1 else "are",
        )


def _check_stem(model: ImageModel, trained: keras.Model, path: pathlib.Path) -> None:
    """Raises a `ValueError` if both stems are strided, and their strides differ."""
    stems = [one.get_layer("stem_conv") for one in (model, trained) if _has_strided_stem(one)]
    if len({stem.strides for stem in stems}) == 2:
        raise ValueError(
            f"{path} does not fit `{model.name}`: its stem has the stride {stems[1].strides[0]}, "
            f"not {stems[0].strides[0]}. Build it with the same `stem_stride`."
        )


def _has_strided_stem(model: keras.Model) -> bool:
    return any(one.name == "stem_conv" and hasattr(one, "strides") for one in model.layers)


def _stage(path: str) -> str | None:
    """Returns the `"stem"`, `"stage1"` ... of a variable's path; `None` for later layers."""
    found = re.match(r"(stem|stage\d+)_", path)
    return found[1] if found else None
