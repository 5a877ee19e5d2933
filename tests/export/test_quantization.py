"""TFLite files in 8 and 16 bits: which operators are quantised, and what they compute."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo
from keras_spd.export import export_tflite, run_tflite, verify_tflite
from keras_spd.export.coarse import coarsest_layers
from keras_spd.export.metadata import read_flatbuffer, schema
from keras_spd.export.quantization import _large_kernels, quantize
from keras_spd.layers import SpaceToDepth, SPDConv

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite files are written with TensorFlow"
)


def operators(path):
    """Returns the name of each operator, and the types of its inputs and its output."""
    model = read_flatbuffer(path.read_bytes())
    names, types = (
        {number: name for name, number in vars(enum).items() if isinstance(number, int)}
        for enum in (schema().BuiltinOperator, schema().TensorType)
    )
    [graph] = model.subgraphs
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        used = [graph.tensors[index] for index in (*operator.inputs, operator.outputs[0])]
        kind = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        yield kind, [types[tensor.type] for tensor in used], used[-1].name.decode()


@pytest.fixture
def model():
    """A small network with what detectors have: space-to-depth, upsampling, and outputs."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    x = SPDConv(8, 3, padding="same", name="stem")(layers.Rescaling(1 / 255)(inputs))
    y = SpaceToDepth(name="phases")(layers.Conv2D(4, 3, padding="same", activation="silu")(x))
    y = layers.UpSampling2D(2)(layers.Conv2D(8, 1, name="lateral")(y))
    x = layers.Concatenate()([x, y])
    outputs = [
        layers.Conv2D(5, 1, name=name)(x) for name in ("head_p3_conv", "detector_head_p3_box_conv")
    ]
    outputs = layers.Concatenate(name="detector_head_p3")(outputs)
    return ImageModel(inputs, outputs, info=ModelInfo(input_range=(0, 255)))


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (6, 16, 16, 3), dtype="uint8")


def test_int8(model, pixels, tmp_path):
    path = tmp_path / "model.tflite"
    export_tflite(model, path, quantization="int8", representative_data=pixels)
    found = list(operators(path))
    assert found[0][1] == ["UINT8", "FLOAT32"] and found[-1][1][-1] == "FLOAT32"
    kinds = [kind for kind, *_ in found]
    assert kinds.count("SPACE_TO_DEPTH") == 2 and kinds.count("RESIZE_NEAREST_NEIGHBOR") == 1
    assert "TILE" not in kinds
    for kind, types, name in found[:-1]:
        if kind == "CONV_2D" and "head_p3" in name:
            assert types == ["FLOAT32", "INT8", "FLOAT32", "FLOAT32"]
        elif kind not in ("CAST", "QUANTIZE", "DEQUANTIZE") and "head_p3" not in name:
            assert types[0] == types[-1] == "INT8", (kind, name)
    expected = model.predict(pixels, verbose=0)
    received = run_tflite(path, pixels)
    np.testing.assert_allclose(received, expected, atol=0.05 * np.abs(expected).max())

    noise = coarsest_layers(path, pixels[0])
    assert len(noise) == 3 and min(noise.values()) > 0 and max(noise.values()) < 0.2
    assert set(noise) <= {layer.name for layer in model.layers}
    with pytest.raises(ValueError, match="differs from `image_model.*: of 6 images.*") as error:
        verify_tflite(path, model, pixels, tolerance=1e-9)
    for words in ("do not use it before", f"{next(iter(noise))} (", 'or "int16x8" or "dynamic"'):
        assert words in str(error.value)


@pytest.mark.slow
def test_int16x8_has_no_space_to_depth(model, pixels, tmp_path):
    path = tmp_path / "model.tflite"
    export_tflite(model, path, quantization="int16x8", representative_data=pixels)
    found = list(operators(path))
    assert found[0][1] == ["UINT8", "FLOAT32"] and found[-1][1][-1] == "FLOAT32"
    assert not {kind for kind, *_ in found} & {"SPACE_TO_DEPTH", "TILE"}
    for kind, types, _ in found:
        if kind == "CONV_2D":
            assert types == ["INT16", "INT8", "INT64", "INT16"]
    expected = model.predict(pixels, verbose=0)
    received = run_tflite(path, pixels)
    np.testing.assert_allclose(received, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.slow
def test_kernels_only(model, pixels, tmp_path):
    path = export_tflite(model, tmp_path / "model.tflite")
    content = path.read_bytes()
    expected = model.predict(pixels, verbose=0)
    for quantization, kernel in (("dynamic", "INT8"), ("float16", "FLOAT32")):  # dequantised
        path.write_bytes(quantize(content, quantization, None))
        kernels = {types[1] for kind, types, _ in operators(path) if kind == "CONV_2D"}
        assert kernels == {kernel}
        assert path.stat().st_size < len(content)
        received = run_tflite(path, pixels)
        np.testing.assert_allclose(received, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.slow
def test_kernels_of_more_than_32_mib(rng):
    from litert_quantizer import qtyping
    from litert_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as module

    kernel = rng.random((512, 3, 3, 1900), "float32")
    scale = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / 127
    parameters = qtyping.UniformQuantParams(
        num_bits=8, quantized_dimension=0, scale=scale, zero_point=np.zeros_like(scale, "int32")
    )
    with _large_kernels():
        found = module.uniform_quantize(kernel, parameters)
    assert found.shape == kernel.shape and found.dtype == np.int8
    assert np.abs(found * scale - kernel).max() <= 0.51 * scale.max()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["yolov8", "retinanet"])
def test_the_outputs_of_every_head_stay_in_float(head, thin_networks, rng, tmp_path):
    model = YOLOV5SPD("n", head=head, classes=2, levels=("P3",))
    pixels = rng.integers(0, 256, (2, 64, 64, 3), dtype="uint8")
    path = tmp_path / "model.tflite"
    export_tflite(model, path, quantization="int8", representative_data=pixels, image_size=(64, 64))
    convolutions = [types for kind, types, _ in operators(path) if kind == "CONV_2D"]
    in_float = [types for types in convolutions if types[-1] == "FLOAT32"]
    assert in_float == 2 * [["FLOAT32", "INT8", "FLOAT32", "FLOAT32"]]  # boxes and classes
    assert all(types[1] == "INT8" for types in convolutions)


def test_an_outlier_does_not_set_the_ranges(tmp_path, rng, caplog):
    """A network of colour differences, which are small in all images but one."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    difference = layers.Conv2D(4, 1, name="difference")
    x = layers.Activation("relu")(difference(layers.Rescaling(1 / 255)(inputs)))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    outputs = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = ImageModel(inputs, outputs, info=ModelInfo(input_range=(0, 255)))
    difference.kernel.assign(
        np.reshape([[1, -1, 1, -1], [-1, 1, 0, 0], [0, 0, -1, 1]], (1, 1, 3, 4))
    )
    grey = np.repeat(rng.integers(4, 250, (30, 16, 16, 1)), 3, axis=-1)
    grey = (grey + rng.integers(-3, 4, grey.shape)).astype("uint8")
    red = np.zeros((1, 16, 16, 3), "uint8") + np.uint8([255, 0, 0])

    def export(name, images):
        path = export_tflite(
            model, tmp_path / name, quantization="int8", representative_data=images
        )
        return path.read_bytes()

    expected = export("grey.tflite", grey)
    assert not caplog.records
    for name, images, place in (
        ("last.tflite", [*grey, *red], 30),
        ("first.tflite", [*red, *grey], 0),
    ):
        assert export(name, images) == expected
        [warning] = caplog.messages
        assert warning.startswith("1 of 31 calibration images are ignored for the int8 ranges")
        assert f"(the first one is number {place}, from 0)" in warning
        caplog.clear()
    assert export("few.tflite", [*grey[:18], *red]) != export("few.tflite", grey[:18])
    assert not caplog.records
