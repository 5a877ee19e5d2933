"""Transfers weights from a detector to one with different downsampling, classes or levels.

Layers are matched by name. Equal layers are copied. Weights of strided layers are converted for
SPD-Conv, and vice versa, by the identities in `keras_spd.algebra`. Layers without a counterpart
keep their initial weights.
"""

import dataclasses
import difflib
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from keras_spd.algebra import (
    spd_inputs_to_strided,
    spd_to_strided,
    strided_inputs_to_spd,
    strided_to_spd,
)
from keras_spd.detection.detector import Detector
from keras_spd.detection.heads import YOLOV5Head
from keras_spd.image_model import ImageModel, list_names
from keras_spd.typing import Array, Shape
from keras_spd.variants import find_yolov5_size

_log = logging.getLogger(__name__)
# Paths of the stem's kernel in the SPD network, inside an `SPDConv`, and in the strided one.
_SPD_STEM, _STRIDED_STEM = "stem_conv/conv/kernel", "stem_conv/kernel"
# Parts of the network that depend on its levels.
_PART = re.compile(r"(stage\d|sppf|(?:lateral|top_down|bottom_up|head|tower)_p\d)_")
# Layers of a head, and those of them that output classes.
_HEAD_LAYERS = ("head_", "tower_")
_CLASS_OUTPUTS = r"head_p\d_(class_)?conv/"


@dataclasses.dataclass(frozen=True)
class TrainedDetector:
    """A trained detector to transfer weights from.

    Args:
        source: Name of the weights or path of the file, for messages.
        arrays: `{path of a variable: array}` of the network.
        num_classes: Number of classes.
        anchors: `{level: ((width, height), ...)}` in pixels; empty if its head has none.
        class_names: Names of the classes, if known.
        image_size: `(height, width)` of the training images, if known.
        head: Name of its head.
        single_class_logit: As in `YOLOV5Head`.
    """

    source: str
    arrays: Mapping[str, Array]
    num_classes: int
    anchors: Mapping[str, Any]
    class_names: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    head: str = "yolov5"
    single_class_logit: bool = False

    @property
    def spd(self) -> bool:
        """Whether the network downsamples by SPD-Conv."""
        return _SPD_STEM in self.arrays

    @property
    def levels(self) -> set[str]:
        """Names of the levels that have a head."""
        found = {re.match(r"head_(p\d)_", path) for path in self.arrays}
        return {match[1].upper() for match in found if match}

    @property
    def size(self) -> str | None:
        """The `size` of `YOLOV5SPD`, or `None` for a width and depth without a name."""
        filters = self.arrays.get("stem_bn/gamma", np.zeros(0)).size
        stage, of = (2, 3) if self.levels == {"P2"} else (3, 6)
        blocks = {re.match(rf"stage{stage}_c3_block\d+", path) for path in self.arrays}
        return find_yolov5_size(filters, len({match[0] for match in blocks if match}), of)

    def __str__(self) -> str:
        """The constructor call that the weights fit."""
        size = self.size
        options = [f'size="{size}"' if size else "size=(...)", f"classes={self.num_classes}"]
        options += [] if self.spd else ['downsampling="strided"']
        return f"keras_spd.applications.YOLOV5SPD({', '.join(options)})"


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
    classes = match_classes(trained, model.num_classes, model.info.class_names, class_map)
    new_parts = _parts_only_in(model.levels, trained.levels)
    dropped_parts = _parts_only_in(trained.levels, model.levels)
    variables = {variable.path: variable for variable in model.network.variables}
    values: dict[str, Array] = {}
    fresh: set[str] = set()
    differences: list[str] = []
    for path, variable in variables.items():
        array = _find(trained, path, tuple(variable.shape), variables)
        if path.startswith(_HEAD_LAYERS):
            level = path.split("_")[1].upper()
            same_anchors = len(trained.anchors.get(level, ())) == len(model.anchors.get(level, ()))
            if trained.head != model.head.name or array is None or not same_anchors:
                fresh.add(f"head_{level.lower()}")
                continue
            if re.match(_CLASS_OUTPUTS, path):
                groups = len(model.head.sides(level))
                before = array.shape[-1] // groups - trained.num_classes
                array = keep_outputs(
                    np.array(variable), array, groups, before, trained.num_classes, classes
                )
        elif _part(path) in new_parts:
            fresh.add(re.sub(r"_(conv|bn|cv\d|block\d+).*", "", path))
            continue
        if array is None:
            differences.append(f"  - {path} {tuple(variable.shape)}: missing from the weights")
            continue
        if array.shape != tuple(variable.shape):
            differences.append(
                f"  ! {path}: {tuple(variable.shape)} in the model, {array.shape} in the weights"
            )
        values[path] = array
    unused = {path for path in trained.arrays if path not in variables}
    unused = {path for path in unused if _part(path) not in dropped_parts}
    if trained.head != model.head.name:
        unused = {path for path in unused if not path.startswith(_HEAD_LAYERS)}
    unused -= {_SPD_STEM, _STRIDED_STEM} if "stem_bn/gamma" in variables else set()
    differences += [f"  + {path}: not in the model" for path in sorted(unused)]
    if differences:
        named = re.fullmatch(r"yolov5_(?:spd|strided)_([nsmlx])", model.name)
        if named and trained.size and trained.size != named[1]:
            raise ValueError(
                f"{trained.source} holds weights of size {trained.size}, and `{model.name}` has "
                f"another size. Build `YOLOV5SPD({trained.size!r})`; on the command line, train "
                f"`yolov5_spd_{trained.size}`."
            )
        shown = "\n".join(differences[:5])
        raise ValueError(
            f"The weights {trained.source} do not fit `{model.name}`. They fit `{trained}`. "
            f"The first {len(differences[:5])} of {len(differences)} differences:\n{shown}"
        )
    for path, array in values.items():
        variables[path].assign(array)
    reads = (
        model.num_classes == 1
        and bool(classes)
        and not fresh
        and (trained.num_classes > 1 or trained.single_class_logit)
    )
    if isinstance(model.head, YOLOV5Head):
        model.head = dataclasses.replace(model.head, single_class_logit=reads)
    return _report(trained, model, fresh, classes)


def _part(path: str) -> str | None:
    """Returns the part of the network that a variable belongs to, if it depends on the levels."""
    found = _PART.match(path)
    return found[1] if found else None


def _parts_only_in(levels: Collection[str], others: Collection[str]) -> set[str]:
    """Returns the parts of a network with some levels that one with other levels lacks."""

    def parts(levels: Collection[str]) -> set[str]:
        numbers = sorted(int(level[1:]) for level in levels)
        stages = {f"stage{number}" for number in range(2, numbers[-1] + 1)} if numbers else set()
        return stages.union(
            (f"{kind}_p{number}" for kind in ("head", "tower") for number in numbers),
            (f"{kind}_p{number}" for kind in ("lateral", "bottom_up") for number in numbers[1:]),
            (f"top_down_p{number}" for number in numbers[:-1]),
        )

    top_differs = max(levels, default="") != max(others, default="")  # SPPF follows the top stage
    return (parts(levels) - parts(others)) | ({"sppf"} if top_differs else set())


def transfer_backbone(trained: TrainedDetector, model: ImageModel) -> None:
    """Loads the backbone of a trained detector of the same size.

    Args:
        trained: `TrainedDetector`.
        model: `ImageModel`, as `YOLOV5SPDBackbone` builds it.

    Raises:
        ValueError: If the detector does not fit. The model is unchanged.
    """
    variables = {variable.path: variable for variable in model.variables}
    values: dict[str, Array] = {}
    for path, variable in variables.items():
        array = _find(trained, path, tuple(variable.shape), variables)
        if array is None or array.shape != tuple(variable.shape):
            raise ValueError(
                f"The weights {trained.source} do not fit `{model.name}` at {path}: they are of "
                f"`{trained}`."
            )
        values[path] = array
    for path, variable in variables.items():
        variable.assign(values[path])


def match_classes(
    trained: TrainedDetector,
    num_classes: int,
    class_names: tuple[str, ...] | None,
    class_map: Mapping[str, str] | None = None,
) -> dict[int, int]:
    """Returns `{index of a class: index in the trained detector}` for the classes in both.

    Raises:
        ValueError: If `class_map` names unknown classes.
    """
    if class_names is None or trained.class_names is None:
        if class_map:
            whose = "the model has" if class_names is None else f"{trained.source} has"
            raise ValueError(f"`class_map` needs names of classes, and {whose} none.")
        same = num_classes == trained.num_classes
        return {index: index for index in range(num_classes)} if same else {}
    class_map = dict(class_map or {})
    for role, given, known in (
        ("keys", list(class_map), class_names),
        ("values", list(class_map.values()), trained.class_names),
    ):
        unknown = [name for name in given if name not in known]
        if unknown:
            whose = "the model's classes" if role == "keys" else f"classes of {trained.source}"
            raise ValueError(
                f"`class_map` has {role} that are not {whose}: {', '.join(map(repr, unknown))}."
                f"{_suggest(unknown[0], known, role, class_map)} Accepted are: {', '.join(known)}."
            )
    if tuple(class_names) == tuple(trained.class_names) and not class_map:
        return {index: index for index in range(num_classes)}
    wanted = [class_map.get(name, name) for name in class_names]
    theirs = list(trained.class_names)
    return {i: theirs.index(name) for i, name in enumerate(wanted) if name in theirs}


def _suggest(name: str, known: Sequence[str], role: str, class_map: Mapping[str, str]) -> str:
    """Returns a suggestion for a misspelt name or a swapped pair, or an empty string."""
    close = difflib.get_close_matches(name, known, 1)
    if not close and role == "keys" and class_map[name] in known:
        return f" Did you mean {class_map[name]}={name}? Your class comes first."
    return f" Did you mean {close[0]!r}?" if close else ""


def _find(
    trained: TrainedDetector, path: str, shape: Shape, variables: Mapping[str, Any]
) -> Array | None:
    """Returns the array for a variable, converted to the model's downsampling, or `None`."""
    arrays = trained.arrays
    if path == _SPD_STEM and _STRIDED_STEM in arrays:
        return strided_to_spd(arrays[_STRIDED_STEM], 2)
    if path == _STRIDED_STEM and _SPD_STEM in arrays:
        return spd_to_strided(arrays[_SPD_STEM], 2)
    array = arrays.get(path)
    reader = re.fullmatch(r"(.+)_c3_cv[12]_conv/kernel", path)
    if array is None or reader is None or array.shape == shape:
        return array
    before = arrays.get(f"{reader[1]}_down_conv/kernel")
    if before is None:
        return array
    channels = before.shape[-1]
    more = shape[2] - array.shape[2]
    if more == 3 * channels:
        return strided_inputs_to_spd(array, channels)
    if more == -3 * channels:
        try:
            return spd_inputs_to_strided(array, channels)
        except ValueError as error:
            raise ValueError(
                f"The SPD weights {trained.source} have no strided twin: "
                f"{reader[1]}_c3 reads pixels that a stride skips. "
                'Build the SPD network, with downsampling="spd".'
            ) from error
    return array


def keep_outputs(
    values: Array,
    array: Array,
    groups: int,
    before: int,
    num_classes: int,
    kept: Mapping[int, int],
) -> Array:
    """Copies outputs of a trained head into the kernel or bias of a new one.

    Args:
        values: Kernel or bias of the new head, with outputs in the last axis.
        array: Kernel or bias of the trained head.
        groups: Number of groups of outputs, one for each anchor.
        before: Number of outputs before the classes in a group, which are always copied: 5 in
            YOLOv5's head, for box and objectness; 0 in layers that only output classes.
        num_classes: Number of classes of the trained head.
        kept: `{index of a class: index in the trained head}`.

    Returns:
        Array with the shape of `values`.
    """
    if values.shape[:-1] != array.shape[:-1]:
        return array  # `transfer` refuses arrays of another shape
    shape = values.shape
    values = values.reshape(*shape[:-1], groups, -1)
    array = array.reshape(*shape[:-1], groups, before + num_classes)
    values[..., :before] = array[..., :before]
    for index, known in kept.items():
        values[..., before + index] = array[..., before + known]
    return values.reshape(shape)


def describe_new(
    kept: Mapping[int, int], num_classes: int, class_names: tuple[str, ...] | None
) -> str:
    """Describes outputs without trained weights: `"the outputs of 1 of 4 classes (bicycle)"`."""
    new = [index for index in range(num_classes) if index not in kept]
    which = f" ({list_names([class_names[index] for index in new])})" if class_names else ""
    return f"the outputs of {len(new)} of {num_classes} classes{which}"


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
    spd = any(variable.path == _SPD_STEM for variable in model.network.variables)
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
