"""The recipe that command-line options ask for."""

import pytest

from keras_spd.training.choice import choose_recipe

FILES = ("cells/data.yaml", "cells/train.json", "cells/images/a.png", "yolov5n.pt", "train")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_paths_are_absolute_so_that_a_run_resumes_from_any_folder(folder):
    options = {"model.name": "yolov5_spd_n", "model.weights": "yolov5n.pt"}
    options |= {"data.train": "cells/data.yaml:train", "data.test": "cells/train.json"}
    options |= {"data.validation": 0.1, "data.images": "cells/images", "data.data_dir": None}
    recipe, _ = choose_recipe(options)
    assert recipe.model.weights == str(folder / "yolov5n.pt")
    assert recipe.data.train == f"{folder / 'cells/data.yaml'}:train"
    assert recipe.data.test == str(folder / "cells/train.json")
    assert recipe.data.images == str(folder / "cells/images")
    assert recipe.data.validation == 0.1
    assert recipe.model.name == "yolov5_spd_n"


def test_names_of_splits_and_weights_stay(folder):
    options = {"data.name": "cifar10", "data.train": "train", "model.weights": "cifar10"}
    recipe, _ = choose_recipe(options | {"model.name": "resnet18_spd"})
    assert recipe.data.train == "train" and recipe.model.weights == "cifar10"
