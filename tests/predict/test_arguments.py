"""Arguments of a wrong type are refused by name; data of a wrong type is not ignored."""

import numpy as np
import pytest
from bright import BrightBox
from tiny import tiny_classifier

from keras_spd import export
from keras_spd.detection import Decoder
from keras_spd.predict import Classifier, Predictor
from keras_spd.training import load_recipe, train

WRONG = ("x", 0, 1.5, [], {}, object(), b"x")


@pytest.mark.parametrize("name", ["image_size", "tile", "max_detections", "batch_size"])
def test_predictor(name):
    model, pixels = BrightBox(), np.zeros((64, 64, 3), "uint8")
    for value in WRONG:
        if value in (0, [], {}) and name == "image_size":
            continue  # as `None`
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            Predictor(model, **{"image_size": 64, name: value})(pixels)


@pytest.mark.parametrize("name", ["confidence_threshold", "iou_threshold", "max_detections"])
def test_decoder(name):
    for value in (*(one for one in WRONG if one != 0), None, np.nan, -1):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            Decoder(**{name: value})


def test_classifier_and_export(tmp_path):
    model = tiny_classifier(statistics="imagenet")
    for value in WRONG:
        with pytest.raises(ValueError, match="`top` must be an integer >= 1"):
            Classifier(model, top=value)
        with pytest.raises(ValueError, match="does not define how its images are normalised"):
            export.export_onnx(value, tmp_path / "a.onnx")


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_training_data(task, tmp_path):
    """Empty lists and zeros used to count as no data, and the recipe's own was downloaded."""
    recipe = load_recipe("short", task=task)
    for data in WRONG:
        with pytest.raises(ValueError, match="`train_data` must be a `keras_spd.data."):
            train(recipe, tmp_path / "run", train_data=data)
        with pytest.raises(ValueError, match="`test_data` must be a `keras_spd.data."):
            train(recipe, tmp_path / "run", test_data=data)
