"""The `model.options` of a recipe: arguments of a constructor that training leaves to the user."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

_DATA = "the data say it"
# Arguments that have a place of their own.
_ELSEWHERE = {
    "weights": "give it as `model.weights`, on the command line as `--weights`",
    "class_map": "give it as `model.class_map`, on the command line as `--class-map`",
    "size": "it is part of `model.name`",
    "classes": _DATA,
    "class_names": _DATA,
    "input_tensor": "a recipe cannot hold a tensor",
    "backbone": "a recipe cannot hold a model",
}


def check_options(
    constructor: Callable[..., Any],
    options: Mapping[str, Any],
    accepted: Mapping[str, tuple[tuple[Any, ...], str]],
) -> None:
    """Refuses options that a constructor does not know, or that contradict what training does.

    Args:
        constructor: Function of `keras_spd.applications`.
        options: Dictionary, the recipe's `model.options`.
        accepted: Dictionary of arguments to `(values, reason)`: the values that training can work
            with, and why no others.

    Raises:
        ValueError: With the option, what was given and what is accepted.
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
                f"`model.options.{name}` is not for `model.options`: {_ELSEWHERE[name]}. "
                f"Received: {value!r}."
            )
        values, reason = accepted.get(name, ((value,), ""))
        if not any(value is one or (type(value) is type(one) and value == one) for one in values):
            raise ValueError(
                f"`model.options.{name}` must be {' or '.join(map(repr, values))} in training: "
                f"{reason}. Received: {value!r}."
            )
