"""Recipes: everything needed to repeat a training run, read from a small TOML file."""

import difflib
import os
import pathlib
import tomllib
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from keras_spd.training.fields import (
    PASSED,
    ClassificationRecipe,
    DetectionRecipe,
    Recipe,
    is_section,
    section_fields,
)
from keras_spd.training.recipe_files import RECIPES, list_recipes, read_recipe_file
from keras_spd.variants import YOLOV5S

_TASKS: dict[str, type[Recipe]] = {
    "classification": ClassificationRecipe,
    "detection": DetectionRecipe,
}


def load_recipe(
    name_or_path: str | os.PathLike,
    *,
    task: str | None = None,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ClassificationRecipe | DetectionRecipe:
    """Reads a recipe.

    Args:
        name_or_path: Name of a shipped recipe, with or without the task or dataset in its
            name (`"paper"` and `"paper_cifar10"`), or the path of a `.toml` file.
        task: `"classification"`, `"detection"`, or `None` for any.
        dataset: Name of a TFDS dataset to use instead of the recipe's.
        overrides: `{dotted field: value}`, such as `{"optimizer.momentum": 0.8}`. Fields of a
            section that `{"optimizer": {"momentum": 0.8}}` does not name keep their values.

    Returns:
        `ClassificationRecipe` or `DetectionRecipe`.

    Raises:
        ValueError: If there is no such recipe, or a field is unknown or has an invalid value. The
            message names the field and, if it is misspelt, the closest one.

    Example:

    >>> recipe = load_recipe("short", dataset="cifar10", overrides={"epochs": 3})
    """
    network = (overrides or {}).get("model.name")
    if task is None and network in {f"yolov5_spd_{size}" for size in YOLOV5S}:
        task = "detection"
    content = _read(name_or_path, task, dataset)
    named = {} if dataset is None else {"data.name": dataset}
    for field, value in {**named, **(overrides or {})}.items():
        section = content
        *parents, last = field.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ValueError(f"`{field}`: `{parent}` has no fields of its own.")
        if not parents and isinstance(value, Mapping) and isinstance(content.get(last, {}), dict):
            content.setdefault(last, {}).update(value)  # a section: its other fields are kept
        else:
            section[last] = value
    stated = content.get("task", "classification")
    if str(stated) not in _TASKS:
        raise ValueError(
            f"Recipe {name_or_path}: `task` must be one of {', '.join(_TASKS)}. "
            f"Received: {stated!r}."
        )
    if task is not None and stated != task:
        raise ValueError(
            f"The recipe {name_or_path} is not for {task}, but for {stated}. `keras-spd list` "
            "shows the task of each shipped recipe."
        )
    kind: type[Any] = _TASKS[str(stated)]
    if fields := list(_true_numbers(content, kind)):  # pydantic takes `True` as 1
        lines = [f"  {field}: it must be a number. Received: True." for field in fields]
        raise ValueError(f"Recipe {name_or_path}:\n" + "\n".join(lines))
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        lines = [_explain(problem, kind) for problem in error.errors()]
        raise ValueError(f"Recipe {name_or_path}:\n" + "\n".join(lines)) from None


def _true_numbers(content: Mapping[str, Any], section: Any) -> Iterator[str]:
    """Yields the fields that are `True` where a number is expected. `False` is 0: off."""
    for name, field in section_fields(section).items():
        kind, value = field.annotation, content.get(name)
        if isinstance(value, Mapping) and is_section(kind):
            yield from (f"{name}.{inner}" for inner in _true_numbers(value, kind))
        elif value is True and _takes_numbers(kind):
            yield name


def _takes_numbers(annotation: Any) -> bool:
    kinds = {annotation, *typing.get_args(annotation)}
    return bool(kinds & {int, float}) and bool not in kinds


def differences(stored: Recipe, given: Recipe) -> list[str]:
    """Returns the fields in which two recipes differ, as `field = stored (given: ...)`."""
    # As in a file, where tuples are lists.
    ours, theirs = (_flat(tomllib.loads(recipe.to_toml())) for recipe in (stored, given))
    # Data that is passed in Python may have been read from files before.
    fields = [f for f in ours | theirs if theirs.get(f) not in (ours.get(f), PASSED)]
    return [f"{field} = {ours.get(field)!r} (given: {theirs.get(field)!r})" for field in fields]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in content.items():
        nested = isinstance(value, dict)
        fields |= _flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return fields


def _read(name_or_path: str | os.PathLike, task: str | None, dataset: str | None) -> dict[str, Any]:
    path = pathlib.Path(name_or_path)
    if path.suffix != ".toml":
        candidates = [str(name_or_path)]
        if task == "detection":
            candidates.insert(0, f"{name_or_path}_detection")
        elif dataset is not None:
            candidates.append(f"{name_or_path}_{dataset.split(':')[0].split('/')[0]}")
        found = [name for name in candidates if name in list_recipes()]
        if not found:
            similar = [name for name in list_recipes() if name.startswith(f"{name_or_path}_")]
            if similar == [f"{name_or_path}_detection"]:
                raise ValueError(
                    f'The recipe {str(name_or_path)!r} is for detectors: pass `task="detection"`.'
                )
            raise ValueError(
                f"There is no recipe {' or '.join(map(repr, candidates))}. Shipped recipes: "
                f"{list_recipes()}. For your own, pass the path of its `.toml` file."
            )
        path = RECIPES / f"{found[0]}.toml"
    return read_recipe_file(path)


def _explain(problem: Any, kind: type[Recipe]) -> str:
    *parents, last = problem["loc"] or ("recipe",)
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        message = problem["msg"].removeprefix("Value error, ")
        received = "" if "Received: " in message else f". Received: {problem['input']!r}."
        return f"  {field}: {message}{received}"
    section: Any = kind
    for parent in parents:
        section = section_fields(section)[parent].annotation
    known = list(section_fields(section))
    close = difflib.get_close_matches(str(last), known, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else f" Known fields: {', '.join(known)}."
    return f"  {field}: unknown field.{hint}"
