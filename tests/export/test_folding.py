"""When a network is folded on export."""

import keras
import pytest

from keras_spd.applications import ModelInfo
from keras_spd.export.folding import folded
from keras_spd.layers import SPDConv


def test_folded_where_it_pays_or_is_asked_for():
    model = keras.Sequential([keras.Input((8, 8, 3)), SPDConv(4, 3)])
    kinds = {
        (fold, file_format): isinstance(folded(model, fold, file_format).layers[-1], SPDConv)
        for fold in (True, False, "auto")
        for file_format in ("SavedModel", "ONNX", "TFLite")
    }
    kept = {(False, "SavedModel"), (False, "ONNX"), (False, "TFLite"), ("auto", "TFLite")}
    assert {key for key, is_spd in kinds.items() if is_spd} == kept
    with pytest.raises(ValueError, match=r"must be True, False or .auto.. Received: fold='yes'"):
        folded(model, "yes", "ONNX")


def test_a_model_that_cannot_be_folded():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    model = Subclassed()
    assert folded(model, "auto", "SavedModel") is model
    with pytest.raises(ValueError, match="takes a functional or Sequential"):
        folded(model, True, "SavedModel")


def test_a_plain_model_keeps_its_info():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, SPDConv(4, 3)(inputs))
    model.info = ModelInfo(input_range=(0, 1), image_size=(8, 8))
    assert folded(model, True, "ONNX").info == model.info
