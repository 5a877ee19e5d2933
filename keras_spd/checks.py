"""Checks of arguments that are the same everywhere."""

import operator
from collections.abc import Iterable
from typing import Any


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises a `ValueError` unless `value` is one of `choices`."""
    choices = tuple(choices)
    if not any(value is choice or value == choice for choice in choices):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={value!r}."
        )


def check_integer(name: str, value: Any, smallest: int = 1) -> int:
    """Returns an integer (also NumPy's) as an `int`.

    Raises a `ValueError` for a boolean, another number or one below `smallest`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < smallest:
        raise ValueError(f"`{name}` must be an integer >= {smallest}. Received: {name}={value!r}.")
    return number
