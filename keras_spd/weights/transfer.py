"""Transfers weights from a detector to one with different downsampling, classes or levels.

Layers are matched by name. Equal layers are copied, and converted between strided layers and
SPD-Conv. Layers without a counterpart keep their initial weights.
"""

import dataclasses
import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_spd import keras_internals
from keras_spd.detection.anchors import level_stride
from keras_spd.detection.detector import Detector
from keras_spd.detection.heads import YOLOV5Head
from keras_spd.detection.heads.decoupled import DecoupledHead
from keras_spd.image_model import ImageModel
from keras_spd.typing import Array
from keras_spd.weights.class_outputs import describe_new, keep_outputs, match_classes
from keras_spd.weights.network_parts import part_of, parts_only_in
from keras_spd.weights.paths import variables_by_path
from keras_spd.weights.trained_detector import SPD_STEM, STRIDED_STEM, TrainedDetector

_log = logging.getLogger(__name__)
# Prefixes of the layers of a head, and the layers among them whose outputs include classes.
_HEAD_LAYERS = re.compile(r"(?:detector\d*_)?(?:head|tower)_(p\d)")
_CLASS_OUTPUTS = r"(?:detector\d*_)?head_p\d_(class_)?conv/"


def transfer(
    trained: TrainedDetector, model: Detector, class_map: Mapping[str, str] | None = None
) -> str:
    """Initialises a detector with the weights of a trained one.

    Weights of a strided network are converted, so that an SPD network computes exactly the same.
    If the heads are of the same kind, boxes, objectness and classes with the same name are
    transferred. If either detector has no class names, all classes are transferred, provided that
    both have the same number. Everything else keeps its initial weights.

    Args:
        trained: `TrainedDetector`.
        model: `Detector` of the same size, as `YOLOV5SPD` builds it.
        class_map: `{class of the model: class of the trained detector}` for names that differ.

    Returns:
        A line of text about what was transferred, which is also logged.

    Raises:
        ValueError: If the networks differ in any other way; if the model is strided, but the SPD
            network reads pixels that a stride skips; or if `class_map` names unknown classes. The
            model is unchanged.
    """
    classes = match_classes(
        model.num_classes,
        model.info.class_names,
        trained.source,
        trained.num_classes,
        trained.class_names,
        class_map,
    )
    variables = variables_by_path(model.network.layers)
    values, fresh, differences = _match_variables(trained, model, variables, classes)
    differences += [f"  + {path}: not in the model" for path in _unused(trained, model, variables)]
    if differences:
        raise ValueError(_misfit(trained, model, differences))
    for path, array in values.items():
        variables[path].assign(array)
    keras_internals.finalize_state(model.network)
    model.initialised_parts = tuple(sorted(fresh))
    if isinstance(model.head, YOLOV5Head):
        # A single class has a trained logit if it was one of several, or had one before.
        has_trained_logit = (
            model.num_classes == 1
            and bool(classes)
            and not fresh
            and (trained.num_classes > 1 or trained.single_class_logit)
        )
        model.head = dataclasses.replace(model.head, single_class_logit=has_trained_logit)
    return _report(trained, model, fresh, classes)


def transfer_backbone(trained: TrainedDetector, model: ImageModel) -> None:
    """Loads the backbone of a trained detector of the same size.

    Args:
        trained: `TrainedDetector`.
        model: `ImageModel`, as `YOLOV5SPDBackbone` builds it.

    Raises:
        ValueError: If the detector does not fit. The model is unchanged.
    """
    variables = variables_by_path(model.layers)
    values: dict[str, Array] = {}
    for path, variable in variables.items():
        array = trained.array_for(path, tuple(variable.shape))
        if array is None or array.shape != tuple(variable.shape):
            raise ValueError(
                f"The weights {trained.source} do not fit `{model.name}` at {path}: they fit "
                f"`{trained}`."
            )
        values[path] = array
    for path, variable in variables.items():
        variable.assign(values[path])


def _match_variables(
    trained: TrainedDetector,
    model: Detector,
    variables: Mapping[str, Any],
    classes: Mapping[int, int],
) -> tuple[dict[str, Array], set[str], list[str]]:
    """Returns values by path, the parts that keep their initial weights, and what does not fit."""
    values: dict[str, Array] = {}
    fresh: set[str] = set()
    differences: list[str] = []
    for path, variable in variables.items():
        shape = tuple(variable.shape)
        array = trained.array_for(path, shape)
        part = _untrained_part(trained, model, path, array)
        if part is not None:
            fresh.add(part)
        elif array is None:
            differences.append(f"  - {path} {shape}: missing from the weights")
        else:
            if re.match(_CLASS_OUTPUTS, path):
                array = _with_classes(trained, model, path, variable, array, classes)
            if array.shape != shape:
                differences.append(
                    f"  ! {path}: {shape} in the model, {array.shape} in the weights"
                )
            values[path] = array
    return values, fresh, differences


def _untrained_part(
    trained: TrainedDetector, model: Detector, path: str, array: Array | None
) -> str | None:
    """Returns the part of the network with this variable, if it keeps its initial weights.

    Those are heads of another kind, of new levels or with another number of anchors, decoupled
    heads with another finest level, and the parts of the neck that only other levels need.
    """
    if _HEAD_LAYERS.match(path):
        level = _level(path)
        anchors = [len(each.anchors.get(level, ())) for each in (trained, model)]
        # The finest level has the fewest channels, which a decoupled head has on all levels.
        finest = [min(each.levels, key=level_stride) for each in (trained, model)]
        other = isinstance(model.head, DecoupledHead) and finest[0] != finest[1]
        same = trained.head == model.head.name and anchors[0] == anchors[1] and not other
        if same and array is not None:
            return None
        return f"head_{level.lower()}"
    if part_of(path) in parts_only_in(model.levels, trained.levels):
        return re.sub(r"_(conv|bn|cv\d|block\d+).*", "", path)
    return None


def _with_classes(
    trained: TrainedDetector,
    model: Detector,
    path: str,
    variable: Any,
    array: Array,
    classes: Mapping[int, int],
) -> Array:
    """Returns the outputs of a head with the classes of the model; new ones are initialised."""
    groups = len(model.head.sides(_level(path)))
    before = array.shape[-1] // groups - trained.num_classes
    return keep_outputs(np.array(variable), array, groups, before, trained.num_classes, classes)


def _level(path: str) -> str:
    """Returns the level of a variable of a head, such as `"P3"` for `head_p3_conv/kernel`."""
    return _HEAD_LAYERS.findall(path)[0].upper()


def _unused(trained: TrainedDetector, model: Detector, variables: Mapping[str, Any]) -> list[str]:
    """Returns paths of trained arrays that the model should have, but does not."""
    dropped_parts = parts_only_in(trained.levels, model.levels)
    unused = {path for path in trained.arrays if path not in variables}
    unused = {path for path in unused if part_of(path) not in dropped_parts}
    if trained.head != model.head.name:
        unused = {path for path in unused if not _HEAD_LAYERS.match(path)}
    unused -= {SPD_STEM, STRIDED_STEM} if "stem_bn/gamma" in variables else set()
    return sorted(unused)


def _misfit(trained: TrainedDetector, model: Detector, differences: list[str]) -> str:
    named = re.fullmatch(r"yolov5_(?:spd|strided)_([nsmlx])", model.name)
    if named and trained.size and trained.size != named[1]:
        return (
            f"{trained.source} holds weights of size {trained.size}, and `{model.name}` has "
            f"another size. Build `YOLOV5SPD({trained.size!r})`; on the command line, train "
            f"`yolov5_spd_{trained.size}`."
        )
    shown = "\n".join(differences[:5])
    return (
        f"The weights {trained.source} do not fit `{model.name}`. They fit `{trained}`. "
        f"The first {len(differences[:5])} of {len(differences)} differences:\n{shown}"
    )


def _report(
    trained: TrainedDetector, model: Detector, fresh: set[str], classes: Mapping[int, int]
) -> str:
    """Logs and returns what was transferred; an exact copy is logged at the level DEBUG."""
    new = []
    same_head = trained.head == model.head.name
    if same_head and len(classes) < model.num_classes:
        new.append(describe_new(classes, model.num_classes, model.info.class_names))
    if fresh:
        new.append(", ".join(sorted(fresh)))
    dropped = trained.levels - set(model.levels)
    spd = SPD_STEM in variables_by_path(model.network.layers)
    changed = spd != trained.spd
    line = f"Loaded {trained.source} into {model.name}: "
    line += f"all except {' and '.join(new)}, which are initialised" if new else "exact"
    if changed:
        line += "; strided convolutions became SPD-Conv" if spd else "; SPD-Conv became strided"
    if dropped:
        one = len(dropped) == 1
        line += f"; {'the level' if one else 'the levels'} {', '.join(sorted(dropped))} "
        line += "was dropped" if one else "were dropped"
    shared = set(trained.anchors) & set(model.anchors) if same_head else set()
    other_anchors = any(model.anchors[level] != trained.anchors[level] for level in shared)
    if other_anchors:
        line += "; boxes are relative to anchors that differ from training"
    line += "."
    partial = new or dropped or other_anchors
    level = logging.WARNING if partial else logging.INFO if changed else logging.DEBUG
    _log.log(level, "%s", line)
    return line
