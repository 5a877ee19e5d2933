"""Imports point one way: each room only imports from those before it in this list."""

import ast
import importlib
import pathlib
import re
import tomllib

import keras
import pytest

from keras_spd import keras_internals
from keras_spd.keras_internals import TESTED, check_version

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_spd"
# The order of the table in ARCHITECTURE.md.
ROOMS = [
    "typing",
    "checks",
    "lazy",
    "version",
    "files",
    "machine",
    "keras_internals",
    "algebra",
    "layers",
    "fast_layers",
    "variants",
    "losses",
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


@pytest.mark.parametrize(
    ("package", "version"),
    [
        *(("Keras", version) for version in ("3.14.9", "3.16.0", "4.0.0.dev1", "2.15.0")),
        *(("TensorFlow", version) for version in ("2.20.0", "2.22.0-rc1", "3.0.0")),
    ],
)
def test_other_versions_are_refused(package, version):
    tested = TESTED[package]
    check_version(package, f"{tested}.1")
    words = (
        f"tested with {package} {tested}. Received: {package} {version}. Run `pip install "
        f'"{package.lower()}=={tested}.*"`'
    )
    with pytest.raises(ImportError, match=re.escape(words)):
        check_version(package, version)


@pytest.mark.parametrize("package", ["keras", "tensorflow"])
def test_another_version_stops_the_import(package, monkeypatch):
    """Of Keras on every backend, of TensorFlow where Keras runs on it.

    `import keras_spd` imports the module that checks: test_saving.py, in a new process.
    """
    if package not in ("keras", keras.backend.backend()):
        pytest.skip("Keras does not run on TensorFlow here")
    monkeypatch.setattr(importlib.import_module(package), "__version__", "9.9.0")
    with pytest.raises(ImportError, match="9.9.0. Run `pip install"):
        importlib.reload(keras_internals)


def test_the_tested_versions_are_those_that_are_installed():
    requirements = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    for package, tested in TESTED.items():
        major, minor = tested.split(".")
        needed = f"{package.lower()}>={tested},<{major}.{int(minor) + 1}"
        assert needed in requirements["dependencies"]
