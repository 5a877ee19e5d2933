"""Detectors with any run of levels: network, training, weights and export."""

import dataclasses

import keras
import numpy as np
import pytest
from tiny import confident_detector

import keras_spd
from keras_spd.applications import YOLOV5SPD, ResNetSPDBackbone, load_torch_weights
from keras_spd.applications.downsampling import load_with_downsampling
from keras_spd.applications.trained import find_trained
from keras_spd.detection.heads import HEADS
from keras_spd.detection.image_size import standardize_image_size

RUNS = [("P2", "P3", "P4"), ("P2", "P3"), ("P4", "P5"), ("P2",), ("P3",), ("P5",)]


@pytest.mark.parametrize("levels", RUNS, ids="-".join)
def test_backbone_ends_at_the_coarsest_level(levels, thin_networks):
    model = YOLOV5SPD("n", classes=2, levels=levels)
    assert model.levels == levels
    stages = {
        name.split("_")[0] for layer in model.network.layers if "stage" in (name := layer.name)
    }
    assert stages == {f"stage{level}" for level in range(2, int(levels[-1][1:]) + 1)}
    assert model.stride == 2 ** int(levels[-1][1:])
    side = 2 * model.stride
    shapes = model.compute_output_shape((1, side, side, 3))
    assert shapes == {
        level: (1, side >> int(level[1:]), side >> int(level[1:]), 3, 7) for level in levels
    }
    assert standardize_image_size(side, model) == (side, side)


def test_spatial_pyramid_pooling_is_at_the_top(thin_networks):
    network = YOLOV5SPD("n", classes=2, levels=("P2", "P3")).network
    [pooled] = network.get_layer("sppf_pool1")._inbound_nodes[0].input_tensors
    assert keras.Model(network.input, pooled).compute_output_shape((1, 64, 64, 3))[1:3] == (8, 8)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_each_head_has_its_loss_on_one_level(head, thin_networks, rng):
    images = rng.uniform(0, 255, (2, 16, 24, 3)).astype("float32")
    truth = {
        "boxes": np.array([[[2, 2, 9, 8]], [[-1, -1, -1, -1]]], "float32"),
        "classes": np.array([[1], [-1]], "int32"),
    }
    model = YOLOV5SPD("n", classes=2, levels=("P3",), head=head)
    parts = model.head.loss(2, "xyxy").components(truth, model(images))
    assert all(0 < float(part) < 1e3 for part in parts.values())


@pytest.mark.slow
def test_weights_are_loaded_into_the_layers_that_remain(thin_networks, tmp_path, caplog):
    trained = YOLOV5SPD("n", classes=2)
    trained.save(tmp_path / "trained.keras")
    model = YOLOV5SPD("n", weights=tmp_path / "trained.keras", levels=("P2", "P3", "P4"))
    assert (
        "all except bottom_up_p3_c3, bottom_up_p3_down, head_p2, lateral_p3, sppf, top_down_p2_c3, "
        "which are initialised; the level P5 was dropped." in caplog.text
    )
    before = {variable.path: np.array(variable) for variable in trained.network.variables}
    initialised = ("bottom_up_p3", "head_p2", "lateral_p3", "sppf", "top_down_p2")
    for variable in model.network.variables:
        if not variable.path.startswith(initialised):
            np.testing.assert_array_equal(variable, before[variable.path])
    model.save(tmp_path / "model.keras")
    YOLOV5SPD("n", weights=tmp_path / "model.keras", levels=("P2",))
    assert "all except sppf, which are initialised; the levels P3, P4 were dropped." in caplog.text
    YOLOV5SPD("n", weights=tmp_path / "model.keras", levels=("P2", "P3", "P4"))  # as it was
    back = YOLOV5SPD("n", weights=tmp_path / "model.keras")
    assert "head_p5, lateral_p5, sppf, stage5_c3, stage5_down, top_down_p4_c3" in caplog.text
    assert back.levels == ("P3", "P4", "P5")


@pytest.mark.slow
def test_the_size_of_a_small_file_is_found(tmp_path):
    """By its second stage, if there is no third."""
    YOLOV5SPD("n", classes=2, levels=("P2",)).save(tmp_path / "p2.keras")
    assert find_trained(tmp_path / "p2.keras").size == "n"


@pytest.mark.slow
def test_torch_weights_need_the_authors_levels(thin_networks):
    model = YOLOV5SPD("n", classes=2, levels=("P2", "P3"))
    with pytest.raises(
        ValueError, match="have the levels P3, P4 and P5.*a model with P2, P3.*levels="
    ):
        load_torch_weights(model, {"a": np.zeros(1)})
    other = YOLOV5SPD("n", classes=2, head="yolov8")
    with pytest.raises(ValueError, match="have YOLOv5's head, and this model another. Pass the"):
        load_torch_weights(other, {"a": np.zeros(1)})


def test_another_backbone_is_cut(thin_networks):
    backbone = ResNetSPDBackbone(18)
    backbone.info = dataclasses.replace(backbone.info, statistics="cifar10")
    model = YOLOV5SPD("n", classes=2, backbone=backbone, levels=("P2", "P3"))
    assert model.network.count_params() < backbone.count_params()
    assert set(model.compute_output_shape((1, 32, 32, 3))) == {"P2", "P3"}


@pytest.mark.slow
def test_export_with_boxes_and_reload(thin_networks, tmp_path, rng):
    model = confident_detector(levels=("P2", "P3"), class_names=("a", "b"))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = rng.uniform(0, 255, (1, 40, 24, 3)).astype("float32")
    np.testing.assert_allclose(loaded(images)["P3"], model(images)["P3"], rtol=1e-5, atol=1e-6)
    file = keras_spd.export.export_tflite(loaded, tmp_path / "model.tflite", image_size=(40, 24))
    comparison = keras_spd.export.verify_tflite(file, loaded, images)
    assert comparison.agreement > 0.95 and comparison.compared > 100


@pytest.mark.parametrize(
    "levels", [("P3", "P2"), ("P2", "P4"), (), ("P1", "P2"), "P3", ("P5", "P6"), None]
)
def test_other_levels_are_refused(levels):
    with pytest.raises(ValueError, match="`levels` must be one or several successive levels of P2"):
        YOLOV5SPD("n", levels=levels)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["yolov8", "retinanet"])
def test_a_decoupled_head_of_another_finest_level_starts_anew(
    tmp_path, thin_networks, head, caplog
):
    """Its channels are those of the finest level."""
    trained = YOLOV5SPD("n", classes=2, head=head)
    trained.save(tmp_path / "trained.keras")
    model = YOLOV5SPD("n", weights=tmp_path / "trained.keras", head=head, levels=("P2", "P3"))
    values = [
        {v.path: keras.ops.convert_to_numpy(v) for v in each.network.trainable_variables}
        for each in (trained, model)
    ]
    backbone = [path for path in values[1] if path.startswith("stage2")]
    assert backbone
    for path in backbone:
        np.testing.assert_array_equal(values[1][path], values[0][path])
    assert any("head" in part for part in model.initialised_parts), caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("head", ["yolov8", "retinanet"])
def test_a_converted_detector_keeps_its_head(tmp_path, rng, head, thin_networks):
    strided = YOLOV5SPD("n", classes=2, head=head, downsampling="strided")
    # With initial weights, the image changes less than the tolerance.
    strided.set_weights([rng.normal(0, 0.25, w.shape) ** 2 + 0.01 for w in strided.get_weights()])
    strided.save(tmp_path / "strided.keras")
    spd = load_with_downsampling(tmp_path / "strided.keras", "spd")
    images = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    black = strided(np.zeros_like(images))
    for level, raw in strided(images).items():
        expected, without = map(keras.ops.convert_to_numpy, (raw, black[level]))
        assert np.abs(expected - without).max() > 0.1
        received = keras.ops.convert_to_numpy(spd(images)[level])
        np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_number_of_classes_is_that_of_their_names(tmp_path, thin_networks):
    one, file = {"levels": ("P3",)}, tmp_path / "abc.keras"
    YOLOV5SPD("n", classes=3, class_names=("a", "b", "c"), **one).save(file)
    assert YOLOV5SPD("n", class_names=("b", "d"), **one).num_classes == 2
    model = YOLOV5SPD("n", weights=file, class_names=("b", "d"), **one)
    assert model.num_classes == 2


@pytest.mark.slow
def test_new_levels_beside_another_number_of_anchors(tmp_path, thin_networks):
    sides = {level: ((8, 8), (16, 16)) for level in ("P3", "P4", "P5")}
    YOLOV5SPD("n", classes=2, anchors=sides).save(tmp_path / "two.keras")
    with pytest.raises(ValueError, match="differ in their number of anchors.*Pass"):
        YOLOV5SPD("n", weights=tmp_path / "two.keras", levels=("P2", "P3", "P4"))
