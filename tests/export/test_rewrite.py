"""Changes to TFLite files after conversion."""

import keras
import numpy as np
import pytest

from keras_spd.applications import ImageModel, ModelInfo
from keras_spd.export import export_tflite, run_tflite
from keras_spd.export.metadata import read_flatbuffer, schema
from keras_spd.export.rewrite import shorten_float_kernels, take_pixels

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite files are written with TensorFlow"
)


def test_kernels_in_8_bits(tmp_path, rng):
    convolutions = [keras.layers.Conv2D(5, 3, name="a"), keras.layers.Conv2D(5, 3, name="b")]
    inputs = keras.Input((8, 6, 4))
    outputs = keras.layers.Add()([layer(inputs) for layer in convolutions])
    model = ImageModel(inputs, outputs, info=ModelInfo(input_range=(0, 255)))
    kernel = rng.normal(size=(3, 3, 4, 5)) * [1, 10, 0.1, 1, 0]  # each channel has its own scale
    for layer in convolutions:  # the same kernel, which the converter may store once
        layer.kernel.assign(kernel)
    images = rng.normal(size=(1, 8, 6, 4)).astype("float32")
    path = export_tflite(model, tmp_path / "model.tflite")
    expected = run_tflite(path, images)
    path.write_bytes(shorten_float_kernels(path.read_bytes()))
    [graph] = read_flatbuffer(path.read_bytes()).subgraphs
    kernels = [tensor for tensor in graph.tensors if len(tensor.shape) == 4 and 5 in tensor.shape]
    assert schema().TensorType.INT8 in {tensor.type for tensor in kernels}
    found = run_tflite(path, images)
    largest = np.abs(expected).max(axis=(0, 1, 2))
    assert (np.abs(found - expected).max(axis=(0, 1, 2)) <= 0.02 * largest).all()


def test_pixels(tmp_path, rng):
    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.Conv2D(2, 3)(inputs)
    model = ImageModel(inputs, outputs, info=ModelInfo(input_range=(0, 255)))
    path = export_tflite(model, tmp_path / "model.tflite", batch_size=2)
    pixels = rng.integers(0, 256, (2, 4, 4, 3), dtype="uint8")
    expected = run_tflite(path, pixels.astype("float32"))
    path.write_bytes(take_pixels(path.read_bytes()))
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    [taken] = interpreter.get_input_details()
    assert taken["dtype"] == np.uint8 and taken["quantization"] == (1.0, 0)
    np.testing.assert_allclose(run_tflite(path, pixels), expected, rtol=1e-5)
