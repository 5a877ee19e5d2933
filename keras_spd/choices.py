"""Checks arguments that have a few accepted values."""

from collections.abc import Iterable
from typing import Any


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises a `ValueError` unless `value` is one of `choices`."""
    choices = tuple(choices)
    if not any(value is choice or value == choice for choice in choices):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={value!r}."
        )
