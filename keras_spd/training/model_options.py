"""Checks `model.options` of a recipe: constructor arguments that the user may set."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

_DATA = "it is read from the data"
# Arguments that are set elsewhere, or not at all.
_ELSEWHERE = {
    "weights": "give it as `model.weights`, on the command line as `--weights`",
    "class_map": "give it as `model.class_map`, on the command line as `--class-map`",
    "size": "it is part of `model.name`",
    "classes": _DATA,
    "class_names": _DATA,
    "input_tensor": "a recipe cannot hold a tensor",
    "backbone": "give it as `model.backbone`, on the command line as `--backbone`",
}


def check_options(
    constructor: Callable[..., Any],
    options: Mapping[str, Any],
    accepted: Mapping[str, tuple[tuple[Any, ...], str]],
) -> None:
    """Refuses options that a constructor lacks, or that training cannot work with.

    Args:
        constructor: Function of `keras_spd.applications`.
        options: `model.options` of the recipe.
        accepted: `{argument: (accepted values, reason)}` for arguments that training restricts.

    Raises:
        ValueError: It names the option, the value given and the accepted values.
    """
    known = inspect.signature(constructor).parameters
    free = [name for name in known if name not in _ELSEWHERE]
    for name, value in options.items():
        if name not in known:
            raise ValueError(
                f"`model.options` of the recipe: {constructor.__name__} has no argument {name!r}. "
                f"It has: {', '.join(free)}."
            )
        if name in _ELSEWHERE:
            raise ValueError(
                f"`model.options` cannot set `{name}`: {_ELSEWHERE[name]}. Received: {value!r}."
            )
        values, reason = accepted.get(name, ((value,), ""))
        if not any(value is one or (type(value) is type(one) and value == one) for one in values):
            raise ValueError(
                f"`model.options.{name}` must be {' or '.join(map(repr, values))} in training: "
                f"{reason}. Received: {value!r}."
            )
        if value is None:
            raise ValueError(
                f"`model.options.{name}` cannot be null in a recipe: omit it for the default."
            )
