"""Arguments of a wrong type are refused by name; data of a wrong type is not ignored."""

import numpy as np
import pytest
from bright import BrightBox
from drawings import write_drawings
from tiny import CAMERA_SIZE, one_layer_detector, tiny_classifier

from keras_spd import data, export
from keras_spd.applications import ModelInfo
from keras_spd.detection import Decoder
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.predict import Classifier, Predictor, evaluate
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


def test_evaluate(tmp_path):
    drawings = data.load_detection(write_drawings(tmp_path / "drawings", count=2))
    model = one_layer_detector()
    model.info = ModelInfo(class_names=drawings.class_names, input_range=(0, 255))
    for value in WRONG:
        with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1"):
            evaluate(model, drawings, CAMERA_SIZE, batch_size=value)


def test_info():
    with pytest.raises(ValueError, match="`info` must be a `ModelInfo`. Received: info=Preproc"):
        one_layer_detector().info = Preprocessing(input_range=(0, 1))


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
    for wrong in WRONG:
        with pytest.raises(ValueError, match="`train_data` must be a `keras_spd.data."):
            train(recipe, tmp_path / "run", train_data=wrong)
        with pytest.raises(ValueError, match="`test_data` must be a `keras_spd.data."):
            train(recipe, tmp_path / "run", test_data=wrong)
