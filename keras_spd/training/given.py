"""Models that are passed to training, instead of the network in the recipe."""

import logging
import os
import pathlib
from typing import Any

import keras

from keras_spd.predict.loading import load_model
from keras_spd.training.fields import PASSED, Recipe
from keras_spd.training.run_folder import START_MODEL, RunFolder

_log = logging.getLogger(__name__)
_SUFFIXES = (".keras", ".pt", ".pth", ".safetensors")


def name_given(recipe: Recipe | None, model: Any) -> tuple[Recipe | None, Any]:
    """Writes the name of a given model into the recipe, and returns both.

    Args:
        recipe: The recipe, or `None` to resume.
        model: `model` of `training.train`.

    Returns:
        The recipe, with the given model in `model.name`; and the model or its path.
    """
    if recipe is None:
        return recipe, model
    if model is None:
        return recipe, recipe.model.name if _names_file(recipe.model.name) else None
    name = recipe.model.name
    if isinstance(model, (str, os.PathLike)) and not _names_file(os.fspath(model)):
        model = load_model(model)  # by the name of shipped weights
    if isinstance(model, (str, os.PathLike)):
        name = str(model)
    elif not _names_file(name):
        name = START_MODEL
    update = {"model": recipe.model.model_copy(update={"name": name})}
    return recipe.model_copy(update=update), model


def name_data(recipe: Recipe | None, **given: Any) -> Recipe | None:
    """Returns the recipe, with `PASSED` as the source of each split that is passed in Python."""
    passed = {name: PASSED for name, data in given.items() if data is not None}
    if recipe is None or not passed:
        return recipe
    data = recipe.data.model_copy(update=passed)
    return recipe.model_copy(update={"data": data})


def check_resumed(
    folder: RunFolder, recipe: Recipe, validation_data: Any, model: Any, kept: Any
) -> None:
    """Checks what is passed to a run that is resumed with its own recipe.

    Args:
        folder: `RunFolder`.
        recipe: The recipe in it.
        validation_data: As in `training.train`.
        model: `model` of `training.train` if no recipe was passed with it.
        kept: As in `find_given`.

    Raises:
        ValueError: If the best epoch would be chosen on other data than before.
    """
    if validation_data is not None and not isinstance(recipe.data.validation, str):
        raise ValueError(
            f"The run in {folder.path} was started with data.validation="
            f"{recipe.data.validation!r}, and its epochs were scored on other data. Resume it "
            "without `validation_data`, or start another run."
        )
    if model is not None and (kept is not None or not _names_file(recipe.model.name)):
        _log.warning("`model` is not used: the run in %s resumes with its own.", folder.path)


def has_start(recipe: Recipe) -> bool:
    """Returns whether a run starts from weights or from a model file.

    They may be gone when the run is resumed, so the run folder keeps a copy.
    """
    model = recipe.model
    return bool(model.weights or model.backbone) or _names_file(model.name)


def find_given(recipe: Recipe, model: Any, kept: pathlib.Path | None) -> keras.Model | None:
    """Returns the given model, or `None` if the recipe builds one by name.

    Args:
        recipe: The recipe of the run.
        model: Model, its path, or `None`.
        kept: `start.keras` of a run that is resumed, or `None`.

    Raises:
        ValueError: If the recipe has fields that only apply to networks built by name.
    """
    if kept is not None:
        return load_model(kept)
    if not _names_file(recipe.model.name):
        return None
    for field in ("weights", "backbone", "options"):
        if value := getattr(recipe.model, field):
            raise ValueError(
                f"`model.{field}` applies to networks built by name; a given model has its "
                f"own. Received: model.{field}={value!r} and the model {recipe.model.name}."
            )
    given = recipe.model.name if model is None else model
    if given == START_MODEL and not pathlib.Path(given).is_file():
        raise ValueError(
            "This recipe is of a run whose model was passed in Python. Pass a model as well: "
            f'`model="RUN/{START_MODEL}"` is the one it started from.'
        )
    return load_model(given) if isinstance(given, (str, os.PathLike)) else given


def without_start(recipe: Recipe) -> Recipe:
    """Returns the recipe for `start.keras`, which has trained weights and the data's classes."""
    update: dict[str, Any] = {"weights": None, "backbone": None, "class_map": {}, "options": {}}
    model = recipe.model.model_copy(update=update)
    return recipe.model_copy(update={"model": model})


def _names_file(name: str) -> bool:
    """Returns whether a model's name is the path of a file, which need not exist."""
    return name.endswith(_SUFFIXES)
