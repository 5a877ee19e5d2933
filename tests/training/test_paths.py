"""Paths in recipes: a run resumes from any folder."""

import pytest

from keras_spd.training import load_recipe
from keras_spd.training.paths import with_absolute_paths

FILES = ("cells/data.yaml", "cells/train.json", "cells/images/a.png", "yolov5n.pt", "train")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_are_absolute(folder):
    overrides = {"model.weights": "yolov5n.pt", "data.train": "cells/data.yaml:train"}
    overrides |= {"data.test": "cells/train.json", "data.validation": 0.1}
    overrides |= {"data.images": "cells/images", "data.name": None, "data.cache": "cells"}
    recipe = load_recipe("finetune", task="detection", overrides=overrides)
    found = with_absolute_paths(recipe)
    assert found.model.weights == str(folder / "yolov5n.pt")
    assert found.data.train == f"{folder / 'cells/data.yaml'}:train"
    assert found.data.test == str(folder / "cells/train.json")
    assert found.data.images == str(folder / "cells/images")
    assert found.data.cache == str(folder / "cells")
    assert found.data.validation == 0.1 and found.data.data_dir is None
    assert found.model.name == recipe.model.name
    assert with_absolute_paths(found) == found


def test_names_stay(folder):
    overrides = {"data.name": "cifar10", "data.train": "train", "model.weights": "cifar10"}
    recipe = load_recipe("short", overrides=overrides)
    assert with_absolute_paths(recipe) == recipe


def test_links_are_not_followed(folder):
    (folder / "1a2b").touch()
    (folder / "cells" / "linked.json").symlink_to(folder / "1a2b")
    overrides = {"data.train": "cells/linked.json", "data.test": "cells/linked.json"}
    recipe = load_recipe("finetune", task="detection", overrides=overrides)
    assert with_absolute_paths(recipe).data.train == str(folder / "cells" / "linked.json")
