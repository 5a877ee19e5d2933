"""Detectors on given backbones: inputs are normalised as in the backbone's training."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_spd
from keras_spd import keras_internals
from keras_spd.applications import (
    YOLOV5SPD,
    ImageModel,
    ModelInfo,
    ResNet18SPD,
    ResNetSPDBackbone,
)

LEVELS = ("P3", "P4", "P5")


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (1, 64, 96, 3)).astype("float32")


@pytest.fixture
def tiny():
    """A backbone of three levels that takes pixels scaled to -1..1."""
    images = x = keras.Input((None, None, 3))
    for level in (3, 4, 5):
        x = keras.layers.Conv2D(4, 3, 8 if level == 3 else 2, "same", name=f"p{level}")(x)
    return ImageModel(images, x, info=ModelInfo(input_range=(-1, 1)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["preset", "file"])
def test_a_classifier_starts_a_detector(kind, pixels, tmp_path, request):
    if kind == "file":  # as `keras-spd train resnet18_spd` saves it
        request.getfixturevalue("thin_networks")
        classifier, weights = ResNet18SPD(classes=2), tmp_path / "model.keras"
        classifier.info = dataclasses.replace(classifier.info, statistics="tiny_imagenet")
        classifier.save(weights)
    else:
        classifier, weights = ResNet18SPD(weights="cifar10"), "cifar10"
    last = classifier.pyramid_level_inputs["P4"]
    features = keras.Model(classifier.input, classifier.get_layer(last).output)
    expected = features(classifier.info.preprocessing.normalize(pixels))

    detector = YOLOV5SPD("n", backbone=ResNetSPDBackbone(18, weights=weights), classes=2)
    layers = detector.network
    received = keras.Model(layers.input, layers.get_layer(last).output)(pixels)
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4)
    assert detector.info.preprocessing.takes_pixels and detector.info.image_size is None
    assert detector(pixels)["P5"].shape == (1, 2, 3, 3, 7)


@pytest.mark.slow
def test_pixels_are_normalised_inside(tiny, pixels, tmp_path, thin_networks):
    wanted = tiny(pixels / 127.5 - 1)
    model = YOLOV5SPD("n", classes=2, backbone=tiny)
    model.save(tmp_path / "model.keras")
    for detector in (model, keras.saving.load_model(tmp_path / "model.keras")):
        network = detector.network
        received = keras.Model(network.input, network.get_layer("p5").output)(pixels)
        np.testing.assert_allclose(received, wanted, rtol=1e-4, atol=1e-5)
        assert detector.info.preprocessing.takes_pixels


def test_or_they_come_as_the_backbone_takes_them(tiny, thin_networks):
    tiny.info = ModelInfo(statistics="imagenet", image_size=(32, 32), outputs="logits")
    model = YOLOV5SPD("n", classes=2, backbone=tiny, include_rescaling=False)
    preprocessing = model.info.preprocessing
    assert preprocessing.statistics == tiny.info.statistics and preprocessing.size is None
    assert not any("normalize" in layer.name for layer in model.network.layers)


@pytest.mark.slow
def test_a_detectors_network_knows_its_pixels(thin_networks):
    first = YOLOV5SPD((0.33, 0.125), classes=2, include_rescaling=False)
    second = YOLOV5SPD("n", classes=2, backbone=keras_spd.to_spd(first.network))
    assert "normalize" in [layer.name for layer in second.network.layers]


@pytest.mark.slow
def test_a_detectors_network_is_a_backbone_up_to_its_heads(pixels, thin_networks, tmp_path):
    first = YOLOV5SPD((0.33, 0.125), classes=2)
    inputs = {
        level: first.network.get_layer(f"head_{level.lower()}_conv").input for level in LEVELS
    }
    features = keras.Model(first.network.input, inputs)(pixels)
    second = YOLOV5SPD("n", class_names=("a", "b", "c"), backbone=first.network)
    neck = second.network.get_layer("detector_lateral_p5_conv")
    received = keras.Model(second.network.input, neck.input)(pixels)
    np.testing.assert_array_equal(received, features["P5"])
    maps = keras_spd.explain.feature_maps(second, pixels[0].astype("uint8"))
    heads = {level: f"detector_head_{level.lower()}_conv" for level in LEVELS}
    known = {level: second.network.get_layer(head).input.shape[-1] for level, head in heads.items()}
    assert {level: maps[level].shape[-1] for level in LEVELS} == known
    second.save(tmp_path / "model.keras")
    start = {"backbone": first.network, "weights": tmp_path / "model.keras"}
    third = YOLOV5SPD("n", class_names=("c", "a", "b"), **start)
    for variable, wanted in zip(third.network.variables, second.network.variables, strict=True):
        if not variable.path.startswith("detector_head"):
            np.testing.assert_array_equal(variable, wanted, err_msg=variable.path)
    kernels = [model.network.get_layer(heads["P3"]).kernel for model in (second, third)]
    wanted, received = (np.reshape(kernel, (*kernel.shape[:3], 3, 8)) for kernel in kernels)
    np.testing.assert_array_equal(received, wanted[..., [0, 1, 2, 3, 4, 7, 5, 6]])


@pytest.mark.slow
def test_refusals(tiny, thin_networks):
    plain = keras.Model(tiny.inputs, tiny.outputs)
    with pytest.raises(ValueError, match="does not define how its images are normalised"):
        YOLOV5SPD("n", classes=2, backbone=plain)
    with pytest.raises(ValueError, match=r"no layer at 1/32.*ResNetSPDBackbone\(18, weights="):
        YOLOV5SPD("n", classes=2, backbone=ResNet18SPD(include_top=False, weights=None))
    fixed = ResNetSPDBackbone(18, input_shape=(100, 96, 3))
    with pytest.raises(ValueError, match=r"must be multiples of 32.*\(None, 100, 96, 3\)"):
        YOLOV5SPD("n", classes=2, backbone=fixed)
    with pytest.raises(ValueError, match="`backbone=detector.network`"):
        YOLOV5SPD("n", classes=2, backbone=YOLOV5SPD((0.33, 0.125), classes=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "cifar10"}, "`backbone` must be a network.*ResNetSPDBackbone.*'cifar10'"),
        ({"weights": 3}, "`weights` must be `None`, the name.*Received: weights=3"),
        ({"class_names": 2}, "`class_names` must hold one name for each of classes=2"),
    ],
)
def test_arguments_of_a_wrong_type(options, message):
    with pytest.raises(ValueError, match=message):
        YOLOV5SPD("n", classes=2, **options)


@pytest.mark.slow
def test_weights_of_another_network(tmp_path, tiny, thin_networks):
    tiny.save(tmp_path / "tiny.keras")
    with pytest.raises(ValueError, match="none of its layers is in the weights"):
        ResNetSPDBackbone(18, weights=tmp_path / "tiny.keras")
    ResNet18SPD(weights=None, classes=2).save(tmp_path / "resnet18.keras")
    with pytest.raises(ValueError, match="stage3_block2_.*missing from the weights"):
        ResNetSPDBackbone(34, weights=tmp_path / "resnet18.keras")


def test_normalisation_by_scale_and_offset(pixels):
    for info in (ModelInfo(statistics="cifar10"), ModelInfo(input_range=(-1, 1))):
        scale, offset = info.preprocessing.scale_and_offset()
        received = pixels * np.array(scale) + np.array(offset)
        np.testing.assert_allclose(received, info.preprocessing.normalize(pixels), atol=1e-5)


def test_a_backbone_of_nested_models(pixels):
    """Each level is a model of its own, first called elsewhere, and a name is taken."""
    images = x = keras.Input((64, 96, 3))
    x = keras.layers.Rescaling(1.0, name="normalize")(x)
    for level, stride, channels in ((3, 8, 3), (4, 2, 4), (5, 2, 4)):
        inputs = keras.Input((None, None, channels))
        part = keras.Model(inputs, keras.layers.Conv2D(4, 3, stride, "same")(inputs))
        part.layers[-1].trainable = level != 4
        x = keras.Model(inputs, part(inputs), name=f"p{level}")(x)
    backbone = ImageModel(images, x, info=ModelInfo(input_range=(-1, 1)))
    detector = YOLOV5SPD((0.33, 0.125), backbone=backbone, classes=2)
    features = keras_internals.output_of(detector.network, "p5")
    network = keras.Model(detector.network.input, features)
    scaled = backbone.info.preprocessing.normalize(pixels)
    np.testing.assert_allclose(network(pixels), backbone(scaled), atol=1e-5)


def test_a_sequential_backbone(pixels):
    strides = {"p3": 8, "p4": 2, "p5": 2}
    backbone = keras.Sequential(
        [keras.Input((None, None, 3))]
        + [keras.layers.Conv2D(4, 3, s, padding="same", name=name) for name, s in strides.items()]
    )
    backbone.info = ModelInfo(input_range=(0, 255))
    detector = YOLOV5SPD((0.33, 0.125), backbone=backbone, classes=2)
    assert set(detector(pixels)) == set(LEVELS)


def test_frozen_layers_inside_others_stay_frozen():
    backbone = ResNetSPDBackbone(18)
    backbone.info = dataclasses.replace(backbone.info, statistics="cifar10")
    backbone.get_layer("stem_conv").conv.trainable = False
    detector = YOLOV5SPD((0.33, 0.125), backbone=backbone, classes=2)
    assert not detector.network.get_layer("stem_conv").conv.trainable
