"""Files and state dicts: what loads, what is refused and with which message."""

import dataclasses
import functools
import pathlib

import keras
import numpy as np
import pytest
import reference
import safetensors.numpy

from keras_spd.applications import (
    ResNet18SPD,
    ResNet50SPD,
    ResNetSPDBackbone,
    load_torch_weights,
)
from keras_spd.weights.reader import read_checkpoint


@pytest.fixture(scope="module")
def fixture():
    return reference.load("resnet18_strided")


def build(**arguments):
    return ResNet18SPD(classes=200, downsampling="strided", classifier_activation=None, **arguments)


@pytest.mark.slow
def test_safetensors(fixture, tmp_path):
    state_dict, images, expected = fixture
    safetensors.numpy.save_file(state_dict, tmp_path / "weights.safetensors")
    model = build(weights=tmp_path / "weights.safetensors")
    logits = model.predict(images, verbose=0)
    assert reference.relative_norm(logits - expected["logits"], expected["logits"]) <= 1e-4


@pytest.mark.slow
def test_torch_tensors_and_a_data_parallel_prefix(fixture):
    torch = pytest.importorskip("torch", reason="state dicts of tensors come from PyTorch")
    state_dict, _, _ = fixture
    prefixed = {f"module.{key}": torch.from_numpy(value) for key, value in state_dict.items()}
    found, expected = (read_checkpoint(source).arrays for source in (prefixed, state_dict))
    assert found.keys() == expected.keys() and "conv1.0.weight" in found
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.slow
def test_without_a_classifier(fixture):
    state_dict, images, _ = fixture
    features = ResNet18SPD(include_top=False, downsampling="strided", pooling="avg")
    load_torch_weights(features, state_dict)
    full = load_torch_weights(build(), state_dict)
    expected = keras.Model(full.input, full.get_layer("avg_pool").output)
    np.testing.assert_allclose(
        features.predict(images, verbose=0), expected.predict(images, verbose=0), rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "misfit"),
    [(".weights.h5", "does not fit `resnet18_spd`"), (".keras", "`classes` must be 3")],
)
def test_keras_files(tmp_path, suffix, misfit, thin_networks):
    model = ResNet18SPD(classes=3)
    path = tmp_path / f"model{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    twin = ResNet18SPD(classes=3, weights=path)
    for ours, theirs in zip(twin.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=f"model{suffix}.*{misfit}"):
        ResNet18SPD(classes=4, weights=path)


@pytest.mark.slow
def test_the_released_resnet18_is_identified_as_resnet50():
    state_dict, _, _ = reference.load("resnet18_spd_as_released")
    model = ResNet18SPD(classes=200)
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"It fits `keras_spd.applications.ResNet50SPD\(classes=200\)`"
    ):
        load_torch_weights(model, state_dict)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "call"),
    [
        (lambda: ResNet18SPD(classes=200), r'ResNet18SPD\(classes=200, downsampling="strided"\)'),
        (lambda: ResNet50SPD(classes=200), r'ResNet18SPD\(classes=200, downsampling="strided"\)'),
        (
            lambda: ResNet18SPD(classes=10, downsampling="strided"),
            r'ResNet18SPD\(classes=200, downsampling="strided"\)',
        ),
    ],
)
def test_a_misfit_names_the_constructor_that_fits(fixture, model, call):
    state_dict, _, _ = fixture
    with pytest.raises(ValueError, match=f"It fits `keras_spd.applications.{call}`"):
        load_torch_weights(model(), state_dict)


@pytest.mark.slow
def test_a_misfit_lists_the_first_differences(fixture):
    state_dict = dict(fixture[0])
    state_dict["conv1.0.weights"] = state_dict.pop("conv1.0.weight")
    state_dict["conv1.1.bias"] = np.zeros(65, "float32")
    with pytest.raises(ValueError) as error:
        load_torch_weights(build(), state_dict)
    lines = str(error.value).splitlines()
    assert lines[0].endswith("The first 3 of 3 differences:")
    assert lines[1:] == [
        "  - conv1.0.weight (64, 3, 3, 3): missing from the source",
        "  + conv1.0.weights (64, 3, 3, 3): not in the model",
        "  ! conv1.1.bias: (64,) in the model, (65,) in the source",
    ]


@pytest.mark.slow
def test_bad_sources(tmp_path):
    model = build()
    with pytest.raises(ValueError, match="must map PyTorch names to arrays.*Received: int"):
        load_torch_weights(model, 3)
    with pytest.raises(ValueError, match=r'`keras.saving.load_model\("hf://user/name"\)`'):
        ResNet18SPD(weights="hf://user/name")
    with pytest.raises(ValueError, match="keras-spd train --model hf://user/name"):
        ResNet18SPD(weights=pathlib.Path("hf://user/name"))
    with pytest.raises(ValueError, match=r"There is no file .*none.safetensors"):
        load_torch_weights(model, tmp_path / "none.safetensors")
    for content in (b"", b"not a file of tensors", b"\xff" * 64):
        (tmp_path / "broken.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"broken.safetensors is not a readable"):
            load_torch_weights(model, tmp_path / "broken.safetensors")
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="model.pth is not a readable PyTorch file"):
        load_torch_weights(model, tmp_path / "model.pth")
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="PyTorch's weights end in .safetensors or .pt"):
        load_torch_weights(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="supports the ResNets and `YOLOV5SPD`.*named .sequential"):
        load_torch_weights(keras.Sequential([keras.Input((3,))]), {})


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("conv.weight", np.array([1.0, np.nan]), "conv.weight holds NaN"),
        ("conv.weight", np.array([1.0, np.inf]), "conv.weight holds NaN or infinite"),
        ("conv.weight", np.ones(2, "int8"), "conv.weight is of type int8"),
        ("conv.weight", np.ones(2, bool), "conv.weight is of type bool"),
        ("bn.running_var", np.array([1.0, -1.0]), "bn.running_var holds negative"),
    ],
)
def test_values_that_are_no_weights_are_refused(name, array, message):
    with pytest.raises(ValueError, match=message):
        read_checkpoint({name: array})


def test_a_keras_file_brings_its_classes_and_preprocessing(tmp_path, thin_networks):
    model = ResNet18SPD(classes=2)
    facts = {"class_names": ("cat", "dog"), "statistics": "cifar10", "max_value": 4095}
    model.info = dataclasses.replace(model.info, **facts)
    model.save(tmp_path / "model.keras")
    loaded = ResNet18SPD(weights=tmp_path / "model.keras")
    assert loaded.output_shape == (None, 2) and loaded.info == model.info


def test_another_stem_stride_is_refused(tmp_path, thin_networks):
    options = {"classes": 2, "downsampling": "strided"}
    file = tmp_path / "model.keras"
    ResNet18SPD(stem_stride=1, **options).save(file)
    with pytest.raises(ValueError, match="downsamples at other layers.*same `stem_stride`"):
        ResNet18SPD(weights=file, stem_stride=2, **options)
    with pytest.raises(ValueError, match="`classes` must be 2. Received: classes=4"):
        ResNet18SPD(weights=file, classes=4, downsampling="strided")
    options = {"weights": file, "downsampling": "strided", "stem_stride": 2}
    for build in (functools.partial(ResNet18SPD, include_top=False), ResNetSPDBackbone):
        with pytest.raises(ValueError, match="stem has the stride 1, not 2.*same `stem_stride`"):
            build(**options)
        build(**options | {"stem_stride": 1})
    with pytest.raises(ValueError, match="The authors' strided network has a `stem_stride` of 1"):
        load_torch_weights(ResNet18SPD(downsampling="strided", stem_stride=2), {})
