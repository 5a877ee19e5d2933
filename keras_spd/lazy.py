"""Imports public names when they are first used (PEP 562)."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Returns the `__getattr__`, `__dir__` and `__all__` of a lazy package.

    A package with functions named like their modules (`surgery.fold`) cannot be lazy, because the
    import system would replace the function by the module.

    Args:
        package: `__name__` of the package.
        homes: The module of each public name; `""` if the name is itself a module.

    Returns:
        `(__getattr__, __dir__, __all__)`.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if homes[name]:
            value = getattr(importlib.import_module(homes[name]), name)
        else:
            value = importlib.import_module(f"{package}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *homes}), list(homes)


def is_command_line() -> bool:
    """Returns whether this is `keras-spd`, which only imports Keras if a command needs it."""
    arguments = getattr(sys, "argv", None) or [""]
    if arguments[0] == "-m":
        given = sys.orig_argv
        return given[given.index("-m") + 1 :][:1] == ["keras_spd"] if "-m" in given else False
    name = arguments[0].replace("\\", "/").rsplit("/", 1)[-1]
    return name.removesuffix(".exe") in ("keras-spd", "keras-spd-script.py")
