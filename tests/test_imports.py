"""Imports point one way: each room imports from those before it in this list alone."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "keras_spd"
# The order of the table in ARCHITECTURE.md.
ROOMS = [
    "typing",
    "lazy",
    "version",
    "files",
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
