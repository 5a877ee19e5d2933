"""Imports point one way: each room imports from those before it in this list alone."""

import ast
import pathlib
import tomllib

import pytest

from keras_spd.keras_internals import TESTED, check_version

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_spd"
# The order of the table in ARCHITECTURE.md.
ROOMS = [
    "typing",
    "lazy",
    "version",
    "files",
    "keras_internals",
    "algebra",
    "layers",
    "fast_layers",
    "variants",
    "optimizers",
    "boxes",
    "images",
    "image_model",
    "metrics",
    "detection",
    "data",
    "weights",
    "applications",
    "surgery",
    "registered",
    "export",
    "explain",
    "predict",
    "training",
    "benchmark",
    "apps",
    "cli",
    "__main__",
]


def imported_rooms(file):
    """Yields the room and the line of every import in a file, late ones included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "keras_spd":
            names = [f"keras_spd.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for parts in (name.split(".") for name in names):
            if parts[0] == "keras_spd" and len(parts) > 1:
                yield parts[1], node.lineno


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").exists() else []
    upward = [
        f"{file.relative_to(PACKAGE)}:{line} imports {other}"
        for file in files or (PACKAGE / room).rglob("*.py")
        for other, line in imported_rooms(file)
        if ROOMS.index(other) > ROOMS.index(room)
    ]
    assert not upward


def test_every_room_is_in_the_list():
    found = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert found - {"__init__", "py"} == set(ROOMS)


def test_keras_private_api_is_used_in_one_module():
    own, found = ("self", "cls", "pickle"), []
    for file in PACKAGE.rglob("*.py"):
        if file.stem == "keras_internals":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            private = (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
                and not (isinstance(node.value, ast.Name) and node.value.id in own)
            )
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [ast.unparse(node)] if isinstance(node, ast.Attribute) else []
            if private or any(f"{name}.".startswith("keras.src.") for name in names):
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno} {ast.unparse(node)}")
    assert not found


@pytest.mark.parametrize("version", ["3.14.9", "3.16.0", "4.0.0.dev1", "2.15.0"])
def test_other_versions_of_keras_are_refused(version):
    check_version("3.15.0")
    with pytest.raises(ImportError, match=rf"tested with Keras 3.15. Received: Keras {version}"):
        check_version(version)


def test_the_tested_version_is_the_one_that_is_installed():
    requirements = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    major, minor = TESTED.split(".")
    assert f"keras>={TESTED},<{major}.{int(minor) + 1}" in requirements["dependencies"]
