"""ONNX files under ONNX Runtime."""

import keras
import numpy as np
import pytest

import keras_spd
from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo
from keras_spd.export import export_onnx, verify_onnx

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="ONNX files are written with TensorFlow"
)


@pytest.mark.slow
def test_detector_with_its_boxes(tmp_path):
    model = YOLOV5SPD("n", weights="bccd")
    path = export_onnx(model, tmp_path / "cells.onnx", image_size=(128, 128), batch_size=2)
    cells, _ = keras_spd.data.load_blood_cells("test").batches(16)[0]
    rows = [np.concatenate(list(cells[start : start + 4]), axis=1) for start in range(0, 16, 4)]
    comparison = verify_onnx(path, model, np.concatenate(rows)[None].astype("float32"))
    assert comparison.compared > 0
    assert comparison.agreement == 1 and comparison.max_difference < 1e-2
    assert [file.name for file in tmp_path.iterdir()] == ["cells.onnx"]


@pytest.mark.slow
def test_another_model_computes_what_it_computes(tmp_path, rng):
    layers = [keras.Input((16, 16, 3)), keras_spd.layers.SPDConv(4), keras.layers.Flatten()]
    info = ModelInfo(input_range=(0, 1), outputs="probabilities")  # unchanged
    network = keras.Sequential(layers)
    model = ImageModel(network.inputs, network.outputs, info=info)
    images = rng.uniform(0, 255, (5, 16, 16, 3)).astype("float32")
    path = export_onnx(model, tmp_path / "model.onnx", batch_size=2)
    assert verify_onnx(path, model, images).images == 5
    with pytest.raises(ValueError, match="ends in `.onnx`"):
        export_onnx(model, tmp_path / "model.tflite")
