"""The shipped recipes as files. Imports neither Keras nor the fields of recipes."""

import pathlib
import tomllib
from typing import Any

RECIPES = pathlib.Path(__file__).parent / "recipes"


def list_recipes() -> list[str]:
    """Returns the names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read_recipe_file(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a recipe file, unchecked.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"Cannot read the recipe {path}: {error}") from error
