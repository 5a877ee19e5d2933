"""Public names are imported when they are first used."""

import ast
import importlib
import inspect
import sys
import types

import pytest

import keras_spd
from keras_spd.lazy import attach, is_command_line

ROOMS = [f"keras_spd.{name}" for name in (*keras_spd._MODULES, "images", "weights")]


@pytest.fixture
def package(monkeypatch):
    """An empty package with lazy names of the standard library."""
    package = types.ModuleType("lazy_package")
    monkeypatch.setitem(sys.modules, "lazy_package", package)
    homes = {"dumps": "json", "Fraction": "fractions", "parts": ""}
    package.__getattr__, package.__dir__, package.__all__ = attach("lazy_package", homes)
    return package


def test_a_name_is_imported_once(package):
    import json

    assert "dumps" not in vars(package)
    assert package.dumps is json.dumps
    assert vars(package)["dumps"] is json.dumps  # `__getattr__` is not asked again


def test_a_name_may_be_a_module(package, monkeypatch):
    parts = types.ModuleType("lazy_package.parts")
    monkeypatch.setitem(sys.modules, "lazy_package.parts", parts)
    assert package.parts is parts


def test_names_are_listed_before_they_are_imported(package):
    assert {"dumps", "Fraction", "parts", "__name__"} <= set(dir(package))
    assert dir(package) == sorted(set(dir(package)))


def test_an_unknown_name_is_an_error(package):
    with pytest.raises(AttributeError, match="module 'lazy_package' has no attribute 'loads'"):
        package.loads  # noqa: B018


@pytest.mark.parametrize("room", ["keras_spd", *ROOMS])
def test_star_imports_give_the_public_names(room):
    public = importlib.import_module(room).__all__
    names = {}
    exec(f"from {room} import *", names)
    assert len(public) == len(set(public)) and names.keys() - {"__builtins__"} == set(public)
    for name, value in names.items():
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__.startswith("keras_spd."), name


@pytest.mark.parametrize("room", ["keras_spd", *ROOMS])
def test_type_checkers_see_the_same_names(room):
    module = importlib.import_module(room)
    tree = ast.parse(inspect.getsource(module))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name for node in imports for alias in node.names}
    defined = {node.name for node in tree.body if hasattr(node, "name")}
    assert set(module.__all__) <= seen | defined


@pytest.mark.parametrize(
    ("program", "given", "expected"),
    [
        ("/usr/bin/keras-spd", [], True),
        ("C:\\Scripts\\keras-spd.exe", [], True),
        ("-m", ["python", "-m", "keras_spd", "list"], True),
        ("-m", ["python", "-m", "pytest", "keras_spd"], False),
        ("train.py", ["python", "train.py"], False),
        ("", ["python"], False),
    ],
)
def test_the_command_is_recognised(program, given, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "orig_argv", given)
    assert is_command_line() is expected
