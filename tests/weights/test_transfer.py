"""Transfer from trained detectors: strided to SPD, other classes, other levels."""

import dataclasses
import logging
import shutil

import keras
import numpy as np
import pytest
import reference
import safetensors.numpy
from conftest import find_shared
from PIL import Image
from thin import make_thin
from typer.testing import CliRunner

from keras_spd.applications import YOLOV5SPD, YOLOV5SPDBackbone, load_torch_model
from keras_spd.cli.main import app
from keras_spd.predict import Predictor
from keras_spd.predict.loading import load_model

LEVELS = ("P3", "P4", "P5")


def perturb(model, rng):
    """Statistics and gains as of a trained network, so that every variable counts."""
    for variable in model.network.variables:
        if "bn/" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def assert_equal_outputs(ours, theirs, images, rows=slice(None)):
    """To a relative 1e-5, norm of the difference over norm, at each level that both have."""
    ours, theirs = ours(images), theirs(images)
    for level in LEVELS:
        wanted = np.array(theirs[level])[..., rows]
        assert reference.relative_norm(np.array(ours[level])[..., rows] - wanted, wanted) <= 1e-5


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (1, 96, 64, 3)).astype("float32")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A strided detector, and its file."""
    names = ("person", "car", "boat")
    file = tmp_path_factory.mktemp("strided") / "strided.keras"
    with pytest.MonkeyPatch.context() as patch:
        make_thin(patch)
        model = YOLOV5SPD("n", classes=3, class_names=names, downsampling="strided")
        perturb(model, np.random.default_rng(0)).save(file)
    return model, file


@pytest.fixture
def strided(saved, tmp_path, thin_networks):
    """The detector; its file is in `tmp_path`."""
    shutil.copy(saved[1], tmp_path)
    return saved[0]


@pytest.fixture(scope="module")
def official():
    """The official checkpoint, and its detector, which no test changes."""
    file = find_shared("reference/checkpoints/yolov5n.pt")
    return file, load_torch_model(file)


@pytest.mark.slow
def test_the_official_checkpoint(official, rng, caplog):
    file, strided = official
    assert strided.name == "yolov5_strided_n"
    with caplog.at_level(logging.INFO, "keras_spd"):
        spd = YOLOV5SPD("n", weights=file)
    assert (
        "yolov5n.pt into yolov5_spd_n: exact; strided convolutions became SPD-Conv." in caplog.text
    )
    assert spd.anchors == strided.anchors
    assert spd.info.class_names == strided.info.class_names and "boat" in spd.info.class_names
    photo = Image.open(find_shared("data/photos/bus.jpg")).convert("RGB").resize((480, 640))
    for image in (rng.uniform(0, 255, (256, 320, 3)), np.asarray(photo)):
        assert_equal_outputs(spd, strided, image[None].astype("float32"))


# Boxes, confidence and class: `DetectMultiBackend` and `non_max_suppression` of Ultralytics' YOLOv5
# v7.0 on PyTorch 2.13, on the pixels that `letterbox` gives.
BOXES_OF_PYTORCH = [
    (219.937, 408.3005, 348.6109, 864.183, 0.8204, 0),
    (51.1771, 397.9442, 206.7776, 897.2529, 0.8163, 0),
    (678.2719, 383.3348, 810.0, 868.5831, 0.684, 0),
    (52.5878, 237.3485, 810.0, 774.457, 0.5611, 5),
]


@pytest.mark.slow
@pytest.mark.parametrize("downsampling", ["spd", "strided"])
def test_boxes_of_the_official_checkpoint(downsampling):
    file = find_shared("reference/checkpoints/yolov5n.pt")
    model = YOLOV5SPD("n", weights=file, downsampling=downsampling)
    [found] = Predictor(model, image_size=640)([find_shared("data/photos/bus.jpg")])
    expected = np.array(BOXES_OF_PYTORCH)
    np.testing.assert_allclose(found.boxes, expected[:, :4], atol=2e-3)
    np.testing.assert_allclose(found.confidence, expected[:, 4], atol=1e-4)
    np.testing.assert_array_equal(found.classes, expected[:, 5])


@pytest.mark.slow
def test_one_class_of_the_official_checkpoint(official, images, caplog):
    file, strided = official
    model = YOLOV5SPD("n", weights=file, classes=1, class_names=("boat",))
    boat = strided.info.class_names.index("boat")
    raw, wanted = model(images), strided(images)
    for level in LEVELS:
        both = np.array(wanted[level])[..., [0, 1, 2, 3, 4, 5 + boat]]
        assert reference.relative_norm(np.array(raw[level]) - both, both) <= 1e-5
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow
def test_strided_into_spd_and_back(images, tmp_path):
    """With C3 blocks, which thin networks do not have."""
    names = ("person", "car", "boat")
    strided = YOLOV5SPD("n", classes=3, class_names=names, downsampling="strided")
    perturb(strided, np.random.default_rng(0)).save(tmp_path / "strided.keras")
    spd = YOLOV5SPD("n", weights=tmp_path / "strided.keras")
    assert spd.num_classes == 3 and spd.info.class_names == ("person", "car", "boat")
    assert_equal_outputs(spd, strided, images)
    spd.save(tmp_path / "spd.keras")
    back = YOLOV5SPD("n", weights=tmp_path / "spd.keras", downsampling="strided")
    for ours, theirs in zip(back.get_weights(), strided.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    kernel = spd.network.get_layer("bottom_up_p4_c3_cv2_conv").kernel
    kernel.assign(kernel + 1e-3)
    spd.save(tmp_path / "spd.keras")
    with pytest.raises(ValueError, match="bottom_up_p4_c3 reads pixels that a stride skips"):
        YOLOV5SPD("n", weights=tmp_path / "spd.keras", downsampling="strided")


@pytest.mark.slow
def test_classes_by_name(strided, images, tmp_path, caplog):
    file = tmp_path / "strided.keras"
    names = ("vessel", "bicycle", "car", "person")
    keras.utils.set_random_seed(1)
    model = YOLOV5SPD("n", weights=file, classes=4, class_names=names, class_map={"vessel": "boat"})
    assert "except the outputs of 1 of 4 classes (bicycle), which are initialised" in caplog.text
    raw, wanted = model(images), strided(images)
    for level in LEVELS:
        ours = np.array(raw[level])[..., [0, 1, 2, 3, 4, 5, 7, 8]]
        theirs = np.array(wanted[level])[..., [0, 1, 2, 3, 4, 7, 6, 5]]
        assert reference.relative_norm(ours - theirs, theirs) <= 1e-5
        layer = model.network.get_layer(f"head_{level.lower()}_conv")
        prior, spread = np.log(0.6 / (4 - 0.99)), layer.kernel.shape[2] ** -0.5  # as if new
        np.testing.assert_allclose(np.array(layer.bias).reshape(3, 9)[:, 6], prior, atol=spread)


@pytest.mark.slow
def test_without_names_classes_of_the_same_number_are_kept(images, tmp_path):
    state_dict, _, _ = reference.load("yolov5_spd_n")
    safetensors.numpy.save_file(state_dict, tmp_path / "nano.safetensors")
    source = load_torch_model(state_dict)
    same = YOLOV5SPD("n", weights=tmp_path / "nano.safetensors", classes=80)
    assert_equal_outputs(same, source, images)
    other = YOLOV5SPD("n", weights=tmp_path / "nano.safetensors", classes=2)
    assert_equal_outputs(other, source, images, rows=slice(0, 5))


@pytest.mark.slow
def test_levels_and_anchors(strided, images, tmp_path, caplog):
    file = tmp_path / "strided.keras"
    model = YOLOV5SPD("n", weights=file, levels=("P2", *LEVELS))
    assert (
        "all except bottom_up_p3_c3, bottom_up_p3_down, head_p2, lateral_p3, top_down_p2_c3, which "
        "are initialised" in caplog.text
    )
    for name in ("stage5_down_conv", "bottom_up_p5_down_conv", "head_p4_conv"):
        ours, theirs = (m.network.get_layer(name).kernel for m in (model, strided))
        np.testing.assert_array_equal(ours, theirs)
    model.save(tmp_path / "p2.keras")
    assert YOLOV5SPD("n", weights=tmp_path / "p2.keras").levels == LEVELS
    assert "the level P2 was dropped" in caplog.text
    model = YOLOV5SPD("n", weights=file, levels=("P2", "P3"))
    assert "lateral_p3, sppf, top_down_p2_c3, which are initialised; strided" in caplog.text
    ours, theirs = (m.network.get_layer("stage3_down_conv").kernel for m in (model, strided))
    np.testing.assert_array_equal(ours, theirs)
    caplog.clear()
    fitted = {level: ((8 * 2**i, 8 * 2**i),) * 3 for i, level in enumerate(LEVELS)}
    model = YOLOV5SPD("n", weights=file, anchors=fitted)
    assert "boxes are relative to anchors that differ from training" in caplog.text
    assert model.anchors["P3"] == ((8, 8),) * 3
    assert_equal_outputs(model, strided, images)
    caplog.clear()
    YOLOV5SPD("n", weights=file, anchors={level: ((8, 8),) for level in LEVELS})
    assert "all except head_p3, head_p4, head_p5" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"class_map": {"vessel": "boat"}, "class_names": "abc"},
            "keys that are not the model's classes: 'vessel'",
        ),
        (
            {"class_map": {"a": "ship"}, "class_names": "abc"},
            "values that are not classes of .*'ship'",
        ),
        ({"class_map": {"a": "car"}, "classes": 2}, "needs class names, but the model has"),
        ({"size": "s"}, "holds weights of size n, and `yolov5_spd_s` has another"),
        ({"weights": None, "class_map": {"a": "b"}}, "`class_map` needs `weights`"),
    ],
)
def test_refused_input(strided, tmp_path, options, message):
    if "class_names" in options:
        options = {**options, "class_names": tuple(options["class_names"])}
    options = {"size": "n", "weights": tmp_path / "strided.keras", **options}
    with pytest.raises(ValueError, match=message):
        YOLOV5SPD(**options)


def test_a_classifier_is_no_detector(tmp_path):
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Flatten()(inputs)).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="needs the weights of a detector.*other.keras"):
        YOLOV5SPD("n", weights=tmp_path / "other.keras")


@pytest.mark.slow
def test_pytorch_files_are_models(official, images, tmp_path):
    """`convert --downsampling spd`, and loading as `predict` does."""
    state_dict, _, _ = reference.load("yolov5_spd_n")
    safetensors.numpy.save_file(state_dict, tmp_path / "nano.safetensors")
    model = load_model(tmp_path / "nano.safetensors")
    assert model.name == "yolov5_spd_n"
    with pytest.raises(ValueError, match="no strided twin: stage2_c3 reads pixels"):
        load_torch_model(tmp_path / "nano.safetensors", "strided")
    with pytest.raises(ValueError, match="only converts files of YOLOv5 detectors"):
        load_torch_model(state_dict, "strided")

    file, strided = official
    result = CliRunner().invoke(
        app, ["convert", str(file), str(tmp_path / "spd.keras"), "--downsampling", "spd"]
    )
    assert result.exit_code == 0 and "yolov5_spd_n" in result.output
    assert_equal_outputs(load_model(tmp_path / "spd.keras"), strided, images)


@pytest.mark.slow
def test_keras_files_are_converted_and_start_backbones(
    strided, images, tmp_path, caplog, monkeypatch
):
    file = tmp_path / "strided.keras"
    decoder = dataclasses.replace(strided.decoder, confidence_threshold=0.3)
    monkeypatch.setattr(strided, "decoder", decoder)
    strided.save(file)
    result = CliRunner().invoke(
        app, ["convert", str(file), str(tmp_path / "spd.keras"), "--downsampling", "spd"]
    )
    assert result.exit_code == 0 and "yolov5_spd_n" in result.output
    spd = load_model(tmp_path / "spd.keras")
    assert_equal_outputs(spd, strided, images)
    assert spd.info.class_names == strided.info.class_names and spd.decoder == strided.decoder

    weights_file = tmp_path / "spd.weights.h5"
    words = ["convert", str(file), str(weights_file), "--downsampling", "spd"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "dog" not in result.output
    with monkeypatch.context() as patch:
        patch.setattr(strided, "anchors", {level: ((9, 9),) * 3 for level in strided.levels})
        strided.save(tmp_path / "anchors.keras")
    words[1] = str(tmp_path / "anchors.keras")
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ValueError)
    assert "no anchors and no head" in str(result.exception)
    assert "spd.keras" in str(result.exception)

    for weights in (file, tmp_path / "spd.keras"):
        backbone = YOLOV5SPDBackbone("n", weights=weights)
        name = backbone.pyramid_level_inputs["P5"]
        sub = keras.Model(spd.network.input, spd.network.get_layer(name).output)
        wanted = np.array(sub(images))
        assert reference.relative_norm(np.array(backbone(images)) - wanted, wanted) <= 1e-5
    backbone.save(tmp_path / "backbone.keras")
    again = YOLOV5SPDBackbone("n", weights=tmp_path / "backbone.keras")
    np.testing.assert_array_equal(again(images), backbone(images))
    with pytest.raises(ValueError, match=r"do not fit .* they fit `.*size=\"n\", classes=3"):
        YOLOV5SPDBackbone("s", weights=file)


def test_a_detector_keeps_what_is_known_about_its_images(tmp_path, thin_networks):
    model = YOLOV5SPD("n", classes=2, levels=("P3",))
    facts = {"max_value": 4095, "tile": (64, 96), "image_size": (96, 64)}
    model.info = dataclasses.replace(model.info, **facts)
    model.save(tmp_path / "model.keras")
    info = YOLOV5SPD("n", levels=("P3",), weights=tmp_path / "model.keras").info
    assert {name: getattr(info, name) for name in facts} == facts
