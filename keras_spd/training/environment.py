"""What a run was started with: versions, machine, command line and git state."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import keras

from keras_spd.machine import accelerators, processor

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def describe_environment() -> dict[str, Any]:
    """Returns versions, machine, command line and git state."""
    packages = ("keras_spd", "keras", "tensorflow", "jax", "torch", "numpy")
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processor": processor(),
        "accelerators": accelerators(),
        "backend": keras.backend.backend(),
        "versions": versions,
        "git": _describe_git(),
    }


def name_code(transform: Any, callbacks: Sequence[Any]) -> dict[str, Any]:
    """Returns the names of the user's own code, for `environment.json`."""
    named = [transform] if transform is not None else []
    names = {"transform": named, "callbacks": [type(callback) for callback in callbacks]}
    return {
        key: [f"{part.__module__}.{getattr(part, '__qualname__', part)}" for part in parts]
        for key, parts in names.items()
        if parts
    }


def _describe_git() -> str | None:
    """Returns the commit of this package, `None` if it does not lie in its own repository."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or pathlib.Path(top).resolve() != _ROOT:  # e.g. installed in a user's project
        return None
    return _git("describe", "--always", "--dirty")


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            # A killed run must not leave a lock on the index.
            ["git", "--no-optional-locks", *arguments],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
