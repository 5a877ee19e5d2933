"""TFLite files: operators, outputs, and no half-written file."""

import dataclasses
import types
from collections import Counter

import keras
import numpy as np
import pytest
from tiny import tiny_classifier

from keras_spd.applications import ImageModel, ModelInfo, ResNet18SPD
from keras_spd.export import Comparison, export_tflite, run_tflite, verify_tflite
from keras_spd.export.exported_models import load_exported
from keras_spd.export.serving import image_sides
from keras_spd.export.tflite import tensorflow
from keras_spd.layers import SpaceToDepth, SPDConv

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite files are written with TensorFlow"
)


def operators(path):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    return Counter(operator["op_name"] for operator in interpreter._get_ops_details())


def dtypes(path):
    """Returns the types of the only input and the only output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    return taken["dtype"], given["dtype"]


@pytest.fixture
def model(thin_networks):
    """Non-trivial batch-norm statistics, so that folding them has an effect."""
    model = ResNet18SPD(classes=4, input_shape=(32, 32, 3))
    model.info = dataclasses.replace(model.info, statistics="cifar10")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.gamma.shape
            layer.moving_mean.assign(rng.normal(0, 0.1, size))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, size))
    return model


@pytest.mark.slow
def test_resnet_is_one_operator_for_each_spd(model, tmp_path, rng):
    path = export_tflite(model, tmp_path / "model.tflite", batch_size=2)
    assert dtypes(path) == (np.float32, np.float32)
    found = operators(path)
    assert found["SPACE_TO_DEPTH"] == 4
    assert not {name for name in found if name in ("PAD", "PADV2", "TRANSPOSE", "RESHAPE")}
    assert not {name for name in found if name.startswith("Flex") or name == "CUSTOM"}

    images = rng.uniform(0, 255, (5, 32, 32, 3)).astype("float32")
    comparison = verify_tflite(path, model, images)
    assert comparison.images == 5
    assert comparison.agreement == 1
    assert comparison.max_difference < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == ["model.tflite"]

    model.get_layer("logits").bias.assign([9, 0, 0, 0])
    with pytest.raises(
        ValueError, match="differs from `resnet18_spd`: of 5 images.*0.0001 is accepted"
    ):
        verify_tflite(path, model, images)


@pytest.mark.slow
def test_layers_with_and_without_padding(tmp_path, rng):
    for sides, pads in (((12, 6), 0), ((7, 5), 2)):
        inputs = keras.Input((*sides, 4))
        x = SPDConv(6, 3, 2, groups=2, padding="same")(inputs)
        info = ModelInfo(input_range=(0, 255))
        model = ImageModel(inputs, SpaceToDepth(3)(x), info=info)
        path = export_tflite(model, tmp_path / "layer.tflite")
        images = rng.normal(size=(1, *sides, 4)).astype("float32")
        np.testing.assert_allclose(
            run_tflite(path, images), model.predict(images, verbose=0), atol=1e-5
        )
        assert operators(path)["SPACE_TO_DEPTH"] == 2
        assert operators(path)["PAD"] == pads


@pytest.mark.slow
def test_unknown_sides_are_refused(tmp_path, thin_networks):
    model = ResNet18SPD(classes=2)
    model.info = dataclasses.replace(model.info, statistics="cifar10")
    with pytest.raises(
        ValueError, match=r"an `input_shape` without `None`. Received: .*None, None"
    ):
        export_tflite(model, tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="ends in `.tflite`"):
        export_tflite(ResNet18SPD(classes=2, input_shape=(8, 8, 3)), tmp_path / "model.lite")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_8_bits_take_pixels(model, tmp_path, rng):
    logits = model.get_layer("logits")
    logits.kernel.assign(50 * logits.kernel)  # otherwise, all scores are about 0.25
    pixels = rng.integers(0, 256, (40, 32, 32, 3), dtype="uint8")
    path = export_tflite(
        model, tmp_path / "model.tflite", quantization="int8", representative_data=pixels
    )
    assert dtypes(path) == (np.uint8, np.float32)
    verify_tflite(path, model, pixels, tolerance=0.05)
    assert np.abs(run_tflite(path, pixels) - 0.25).max() > 0.1


@pytest.mark.slow
def test_image_sizes_mean_the_same_everywhere(thin_networks):
    model = ResNet18SPD(classes=2)
    assert image_sides(model, 24) == (24, 24)
    assert image_sides(model, [16, 24]) == image_sides(model, (16, 24)) == (16, 24)


@pytest.mark.slow
def test_several_sizes_are_a_list_or_a_tuple(tmp_path):
    model = tiny_classifier(statistics="imagenet")
    for sizes in ([(16, 16)], ((16, 16),), (16, 16), 16):
        export_tflite(model, tmp_path / "model.tflite", image_size=sizes)
        assert list(load_exported(tmp_path / "model.tflite").image_sizes) == [(16, 16)]


@pytest.mark.parametrize(
    ("backend", "what", "missing"),
    [
        ("torch", "TFLite files", True),
        ("torch", "SavedModels", False),
        ("jax", "ONNX files", False),
    ],
)
def test_other_backends_export_in_another_process(backend, what, missing, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ValueError, match=f'{what} are .* Keras runs on "{backend}"') as error:
        tensorflow(what)
    assert ("`litert-torch`, has no operator for NMS." in str(error.value)) == missing
    assert "the same file in a process started with KERAS_BACKEND=tensorflow" in str(error.value)


def test_the_class_of_a_single_output_is_that_of_its_half():
    expected, received = np.array([[[0.9], [0.1], [0.6], [0.45]], [[0.8], [0.55], [0.7], [0.4]]])
    assert Comparison.of_classes(expected, received).agreement == 0.75


def test_networks_with_several_outputs_are_refused(tmp_path):
    inputs = keras.Input((8, 8, 3))
    finer = keras.layers.Conv2D(2, 3, 2)(inputs)
    outputs = [finer, keras.layers.Conv2D(2, 3, 2)(finer)]
    model = ImageModel(inputs, outputs, name="pyramid", info=ModelInfo(input_range=(0, 1)))
    with pytest.raises(ValueError, match="`pyramid` has 2 outputs. Export a model of one of them"):
        export_tflite(model, tmp_path / "model.tflite")


def test_nan_is_a_difference():
    comparison = Comparison.of_classes(np.array([[0.9, 0.1]]), np.full((1, 2), np.nan))
    with pytest.raises(ValueError, match="a.tflite differs from `odd`.* differ by up to nan"):
        comparison.check("a.tflite", types.SimpleNamespace(name="odd"), 0.5, 0.0)


@pytest.mark.parametrize("count", [[], 0, True, (1, 0)])
def test_batch_sizes_are_checked(count, tmp_path):
    with pytest.raises(ValueError, match="`batch_size`"):
        export_tflite(tiny_classifier(input_range=(0, 1)), tmp_path / "m.tflite", batch_size=count)
    assert not list(tmp_path.iterdir())
