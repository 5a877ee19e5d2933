"""Turns command-line options into a recipe, and refuses options that contradict each other."""

import contextlib
import difflib
import json
import pathlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_spd import applications
from keras_spd.images.tiles import network_size
from keras_spd.predict.loading import load_model
from keras_spd.training.distribution import distribute
from keras_spd.training.fields import Recipe
from keras_spd.training.recipe import load_recipe
from keras_spd.typing import Path

_KINDS = {"train", "trainval", "training", "val", "valid", "validation", "test", "annotations"}
_KINDS |= {"data", "images", "labels"}


def choose_recipe(
    options: Mapping[str, Any],
    assignments: Sequence[str] = (),
    recipe: str | None = None,
    model_file: Path | None = None,
) -> tuple[Recipe, keras.Model | None]:
    """Returns a recipe with the given fields, and the model to train if it is in a file.

    Args:
        options: `{dotted field: value}` of the command-line options, apart from `--set`; `None`
            for those that were not given.
        assignments: `"FIELD=VALUE"` for any other field, as `--set` takes them.
        recipe: Name or path of a recipe. Defaults to `short`; from trained weights, to `finetune`
            for a detector and `few_images` for a classifier.
        model_file: Path of a model to train instead of a named network; it is also
            `options["model.name"]`.

    Returns:
        The recipe, and the model in `model_file` or `None`.

    Raises:
        ValueError: If options contradict each other, or there is nothing to train or train on.
    """
    given = {field: value for field, value in options.items() if value is not None}
    _check_start(given, model_file)
    model = None
    if model_file is not None:
        distribute()  # workers must connect before a model exists
        model = load_model(model_file)
    task = _find_task(given, model)
    overrides = merge_fields(given, assignments)
    if overrides.get("data.tile") is not None:  # as in prediction, tiles keep their size
        if task == "classification" or given.get("model.name") in applications.CLASSIFIERS:
            raise ValueError("`--tile` is for detectors: a classifier looks at whole images.")
        overrides.setdefault("data.image_size", network_size(overrides["data.tile"]))
    _require_data(given, overrides, recipe, task)
    if "data.train" in given and "data.name" not in given:
        overrides.setdefault("data.name", None)  # not the dataset of the recipe
    if recipe is None:
        trained = bool(overrides.get("model.weights")) or model is not None
        recipe = ("finetune" if task == "detection" else "few_images") if trained else "short"
    dataset = given.get("data.name")
    return load_recipe(recipe, task=task, dataset=dataset, overrides=overrides), model


def has_tiles(recipe: Recipe | None) -> bool:
    """Returns whether a recipe cuts images into tiles."""
    return getattr(getattr(recipe, "data", None), "tile", None) is not None


def default_run_folder(recipe: Recipe) -> pathlib.Path:
    """Returns `runs/MODEL_DATASET_SEED`."""
    data = recipe.data
    path = re.sub(r":[^:/\\]*$", "", data.train)  # without the split of `data.yaml:train`
    source = data.name or _name_dataset(pathlib.PureWindowsPath(path))  # with / or \
    network = pathlib.Path(recipe.model.name).stem
    return pathlib.Path("runs", f"{network}_{source.replace('/', '_')}_{recipe.seed}")


def _name_dataset(path: pathlib.PurePath) -> str:
    """Returns the last name in a path that is not only that of a split or a kind of file."""
    for name in (path.stem, *(parent.name for parent in path.parents)):
        kind = name.removeprefix("instances_").rstrip("0123456789")
        if name and kind not in _KINDS:
            return name
    return path.stem


def check_resume(
    run_folder: Path | None,
    options: Mapping[str, Any],
    assignments: Sequence[str] = (),
    recipe: str | None = None,
) -> pathlib.Path:
    """Returns the run folder to resume.

    Raises:
        ValueError: If there is none, or a recipe or a field other than `epochs` is given as well.
    """
    if run_folder is None:
        raise ValueError("`--resume` needs the run folder: `--run runs/...`.")
    fields = merge_fields({**options, "epochs": None}, assignments)
    others = [f"{field}={value}" for field, value in fields.items()]
    if others or recipe:
        raise ValueError(
            f"`--resume` uses the recipe in {run_folder}, and can only be combined with `--run`, "
            f"`--epochs` and `--devices`. Received: {', '.join(others) or recipe}."
        )
    return pathlib.Path(run_folder)


def merge_fields(options: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Returns the fields that options and `FIELD=VALUE` change.

    Raises:
        ValueError: If two of them contradict each other.
    """
    fields = {field: value for field, value in options.items() if value is not None}
    for field, value in map(_parse_assignment, assignments):
        for other, before in fields.items():
            plain = list(before) if isinstance(before, tuple) else before  # as in JSON
            differs = field == other and value != plain
            if differs or field.startswith(f"{other}.") or other.startswith(f"{field}."):
                raise ValueError(
                    f"The options contradict each other: `{other}` is {before!r}, but "
                    f"`--set {field}=...` sets {value!r}. Pass only one of them."
                )
        fields[field] = value
    return fields


def _parse_assignment(assignment: str) -> tuple[str, Any]:
    """Splits `FIELD=VALUE`; the value is JSON or TOML if it is valid, otherwise a string."""
    field, equals, value = assignment.partition("=")
    if not equals:
        raise ValueError(f"`--set` takes FIELD=VALUE. Received: {assignment!r}.")
    with contextlib.suppress(json.JSONDecodeError):
        return field.strip(), json.loads(value)
    try:
        return field.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return field.strip(), value


def _check_start(given: Mapping[str, Any], model_file: Path | None) -> None:
    """Raises a `ValueError` if the network is unknown or `--backbone` contradicts the rest."""
    name, weights, backbone = (given.get(f"model.{key}") for key in ("name", "weights", "backbone"))
    networks = [*applications.CLASSIFIERS, *applications.DETECTORS]
    if model_file is None and name is not None and name not in networks:
        close = difflib.get_close_matches(name, networks, len(networks))[:3]
        close.sort(key=networks.index)  # the smallest of equally close ones
        raise ValueError(
            f"There is no network {name!r}.{f' Did you mean {close[0]}?' if close else ''} "
            f"Available networks: {', '.join(networks)}."
        )
    if backbone and (weights or model_file):
        raise ValueError(
            "`--backbone` cannot be combined with `--weights` or `--model`, which bring their own "
            f"backbone. Received: --backbone {backbone} and {weights or model_file}."
        )
    if backbone and name in applications.CLASSIFIERS:
        raise ValueError(
            f"`--backbone` is for detectors, and {name} is a classifier. To start it from another "
            f"classifier, use `--weights {backbone}`."
        )


def _find_task(given: Mapping[str, Any], model: keras.Model | None) -> str | None:
    """Returns the task of the network or model; `None` if the recipe decides."""
    is_detector = given.get("model.name") in applications.DETECTORS
    if is_detector or "model.backbone" in given or isinstance(model, applications.Detector):
        return "detection"
    return None if model is None else "classification"


def _require_data(
    given: Mapping[str, Any], overrides: Mapping[str, Any], recipe: str | None, task: str | None
) -> None:
    """Raises a `ValueError` if training or test data is missing."""
    has_data = bool({"data.name", "data.train"} & set(overrides))
    if task == "detection" and not has_data and recipe is not None:
        data = load_recipe(recipe, task=task).data
        has_data = bool(data.name) or str(recipe).endswith(".toml")
    if task == "detection" and not has_data:
        raise ValueError(
            "A detector is trained on your data: `--train ... --test ...` with COCO `.json` files, "
            "YOLO's `data.yaml:train` and `data.yaml:val`, or folders of VOC `.xml` files; or on a "
            "TFDS dataset, `--dataset voc/2012 --train train --test validation`."
        )
    if "data.train" in given and not {"data.name", "data.test"} & set(overrides):
        raise ValueError("`--train` needs `--test`, the data that scores are computed on.")
    if not (has_data or recipe):
        raise ValueError(
            "There is nothing to train on. Give a network and your data, `keras-spd train "
            "resnet18_spd --train FOLDER --test FOLDER` (see `keras-spd train --help` for "
            "formats), a TFDS dataset, `--dataset cifar10`, or a recipe with data, "
            "`--recipe demo`."
        )
