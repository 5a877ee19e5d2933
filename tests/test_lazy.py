"""Public names are imported when they are first used."""

import sys
import types

import pytest

from keras_spd.lazy import attach, is_command_line


@pytest.fixture
def package(monkeypatch):
    """An empty package with lazy names of the standard library."""
    package = types.ModuleType("lazy_package")
    monkeypatch.setitem(sys.modules, "lazy_package", package)
    homes = {"dumps": "json", "Fraction": "fractions", "parts": ""}
    package.__getattr__, package.__dir__ = attach("lazy_package", homes)
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
