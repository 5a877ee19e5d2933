"""Makes the paths in a recipe absolute, so that its run resumes from any folder."""

import os
import pathlib
from typing import Any

from keras_spd.training.fields import Recipe


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """Returns a recipe whose files and folders, if they exist, are absolute paths.

    Names, such as those of shipped weights and of the splits of a TFDS dataset, are kept.
    """
    model, data = recipe.model, recipe.data
    splits = () if data.name else ("train", "validation", "test")
    in_model = {key: _absolute(getattr(model, key), os.path.isfile) for key in _MODEL}
    in_data = {key: _absolute(getattr(data, key, None)) for key in (*splits, *_FOLDERS)}
    in_data = {key: path for key, path in in_data.items() if path is not None}
    update = {"model": model.model_copy(update=in_model), "data": data.model_copy(update=in_data)}
    return recipe.model_copy(update=update)


_MODEL = ("name", "weights", "backbone")
_FOLDERS = ("images", "data_dir", "cache")


def _absolute(value: Any, exists: Any = os.path.exists) -> Any:
    """Returns the absolute path of a file, also of `data.yaml:train`; anything else unchanged."""
    if not isinstance(value, str):
        return value
    path, colon, split = value, "", ""
    if not exists(path):
        path, colon, split = value.rpartition(":")
    # Links stay: images and labels are searched beside them, and they have the suffix.
    return f"{pathlib.Path(path).absolute()}{colon}{split}" if path and exists(path) else value
