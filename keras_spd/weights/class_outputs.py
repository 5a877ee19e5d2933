"""Matches classes with those of a trained model, and copies their outputs to a new layer."""

import difflib
from collections.abc import Mapping, Sequence

from keras_spd.image_model import list_names
from keras_spd.typing import Array


def match_classes(
    num_classes: int,
    class_names: tuple[str, ...] | None,
    source: str,
    known_classes: int,
    known_names: tuple[str, ...] | None,
    class_map: Mapping[str, str] | None = None,
) -> dict[int, int]:
    """Returns `{index of a class: index in the trained model}` for the classes in both.

    Args:
        num_classes, class_names: Those of the new model.
        source: Name of the trained model, for messages.
        known_classes, known_names: Number and names of its classes.
        class_map: `{name in the new model: name in the trained one}`, where they differ.

    Raises:
        ValueError: If `class_map` names unknown classes.
    """
    if class_names is None or known_names is None:
        if class_map:
            whose = "the model has" if class_names is None else f"{source} has"
            raise ValueError(f"`class_map` needs class names, but {whose} none.")
        same = num_classes == known_classes
        return {index: index for index in range(num_classes)} if same else {}
    class_map = dict(class_map or {})
    for role, given, known in (
        ("keys", list(class_map), class_names),
        ("values", list(class_map.values()), known_names),
    ):
        unknown = [name for name in given if name not in known]
        if unknown:
            whose = "the model's classes" if role == "keys" else f"classes of {source}"
            raise ValueError(
                f"`class_map` has {role} that are not {whose}: {', '.join(map(repr, unknown))}."
                f"{_suggest(unknown[0], known, role, class_map)} Known classes: {', '.join(known)}."
            )
    if tuple(class_names) == tuple(known_names) and not class_map:
        return {index: index for index in range(num_classes)}
    wanted = [class_map.get(name, name) for name in class_names]
    theirs = list(known_names)
    return {i: theirs.index(name) for i, name in enumerate(wanted) if name in theirs}


def _suggest(name: str, known: Sequence[str], role: str, class_map: Mapping[str, str]) -> str:
    """Returns a suggestion for a misspelt name or a swapped pair, or an empty string."""
    close = difflib.get_close_matches(name, known, 1)
    if not close and role == "keys" and class_map[name] in known:
        return f" Did you mean {class_map[name]}={name}? Your class comes first."
    return f" Did you mean {close[0]!r}?" if close else ""


def keep_outputs(
    values: Array,
    array: Array,
    groups: int,
    before: int,
    num_classes: int,
    kept: Mapping[int, int],
) -> Array:
    """Copies outputs of a trained layer into the kernel or bias of a new one.

    Args:
        values: Kernel or bias of the new layer, with outputs in the last axis.
        array: Kernel or bias of the trained layer.
        groups: Number of groups of outputs, one for each anchor.
        before: Number of outputs before the classes in a group, which are always copied: 5 in
            YOLOv5's head, for box and objectness; 0 in layers that only output classes.
        num_classes: Number of classes of the trained layer.
        kept: `{index of a class: index in the trained layer}`.

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
