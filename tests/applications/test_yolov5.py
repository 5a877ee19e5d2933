"""YOLOV5SPD against the authors' network, and as a Keras model."""

import dataclasses

import keras
import numpy as np
import pytest
import reference

import keras_spd
from keras_spd.applications import (
    YOLOV5SPD,
    ImageModel,
    ModelInfo,
    YOLOV5SPDBackbone,
    load_torch_weights,
)
from keras_spd.detection import Decoder, YOLOV5Loss

TINY = (0.33, 0.125)
PARAMETERS = [
    ("n", "spd", 2_256_157),
    pytest.param("s", "spd", 8_771_389, marks=pytest.mark.slow),
    pytest.param("m", "spd", 24_646_557, marks=pytest.mark.slow),
    pytest.param("l", "spd", 52_707_709, marks=pytest.mark.slow),
    ("n", "strided", 1_872_157),
    pytest.param("s", "strided", 7_235_389, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("size", "downsampling", "expected"), PARAMETERS)
def test_number_of_trainable_parameters(size, downsampling, expected):
    with keras.StatelessScope(initialize_variables=False):  # they have a shape, and no values
        model = YOLOV5SPD(size, downsampling=downsampling)
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == expected


@pytest.mark.slow
def test_size_x():
    """YOLOv5x has 86,705,005 parameters with its batch norms folded: a bias for gain and bias."""
    with keras.StatelessScope(initialize_variables=False):
        trainable = YOLOV5SPD("x", downsampling="strided").network.trainable_variables
    count = sum(np.prod(v.shape) for v in trainable)
    gains = sum(v.shape[0] for v in trainable if v.path.endswith("/gamma"))
    assert (count, count - gains) == (86_749_405, 86_705_005)


@pytest.mark.parametrize("size", ["n", pytest.param("s", marks=pytest.mark.slow)])
def test_authors_outputs(size):
    state_dict, images, expected = reference.load(f"yolov5_spd_{size}")
    model = YOLOV5SPD(size, include_rescaling=False)
    load_torch_weights(model, state_dict)
    found = [model(images)]
    if size == "n":
        rescaled = YOLOV5SPD(size)
        load_torch_weights(rescaled, {f"module.{k}": v for k, v in state_dict.items()})
        found.append(rescaled(images * 255))
    for level in ("P3", "P4", "P5"):
        wanted = expected[f"raw_{level.lower()}"].transpose(0, 2, 3, 1, 4)
        for raw in found:
            assert reference.relative_norm(np.array(raw[level]) - wanted, wanted) <= 1e-4


@pytest.mark.slow
def test_swapped_phases_show():
    state_dict, images, expected = reference.load("yolov5_spd_n")
    model = YOLOV5SPD("n", include_rescaling=False)
    load_torch_weights(model, state_dict)
    wanted = expected["raw_p5"].transpose(0, 2, 3, 1, 4)
    for layer, channels in (("stage3_c3_cv1_conv", 64), ("bottom_up_p5_c3_cv2_conv", 128)):
        kernel = model.network.get_layer(layer).kernel
        values = np.array(kernel)
        swapped = values.copy()
        swapped[:, :, : 2 * channels] = np.roll(values[:, :, : 2 * channels], channels, axis=2)
        kernel.assign(swapped)
        found = np.array(model(images)["P5"])
        assert reference.relative_norm(found - wanted, wanted) > 1e-2, layer
        kernel.assign(values)


def test_no_strided_layer_is_left():
    with keras.StatelessScope(initialize_variables=False):
        model = YOLOV5SPD(TINY)
    for layer in model.network.layers:
        assert tuple(getattr(layer, "strides", (1, 1))) == (1, 1), layer.name


@pytest.mark.slow
def test_strided_twin_has_the_same_outputs_shapes():
    shapes = []
    for downsampling in ("spd", "strided"):
        raw = YOLOV5SPD(TINY, classes=2, downsampling=downsampling)(np.zeros((1, 64, 96, 3)))
        shapes.append({level: tuple(value.shape) for level, value in raw.items()})
    assert shapes[0] == shapes[1] == {
        "P3": (1, 8, 12, 3, 7), "P4": (1, 4, 6, 3, 7), "P5": (1, 2, 3, 3, 7)
    }  # fmt: skip


@pytest.mark.slow
def test_first_biases_are_the_priors():
    model = YOLOV5SPD("n", classes=20)
    bias = np.array(model.network.get_layer("head_p4_conv").bias).reshape(3, 25)
    limit = 1 / np.sqrt(128)
    assert np.abs(bias[:, :4]).max() <= limit and np.abs(bias[:, :4]).std() > limit / 10
    assert np.abs(bias[:, 4] - np.log(8 / 40**2)).max() <= limit
    assert np.abs(bias[:, 5:] - np.log(0.6 / 19.01)).max() <= limit


def make_truth(images=4):
    boxes = np.full((images, 8, 4), -1, "float32")
    boxes[:, 0], boxes[:, 1] = [10, 10, 30, 34], [40, 20, 60, 50]
    classes = np.full((images, 8), -1, "int32")
    classes[:, :2] = [0, 2]
    return {"boxes": boxes, "classes": classes}


def make_model(**options):
    options = {"classes": 3, "class_names": ("a", "b", "c"), **options}
    return YOLOV5SPD(TINY, **options)


@pytest.mark.slow
def test_losses_are_shown_by_name_and_their_sum_is_minimised(thin_networks):
    model = make_model()
    model.compile()
    images, truth = np.full((4, 64, 64, 3), 99.0), make_truth()
    history = model.fit(images, truth, batch_size=4, verbose=0).history
    assert set(history) == {"loss", "box_loss", "objectness_loss", "class_loss"}
    parts = history["box_loss"][0] + history["objectness_loss"][0] + history["class_loss"][0]
    assert history["loss"][0] == pytest.approx(4 * parts, rel=1e-5)


def test_default_optimizer_is_the_papers(thin_networks):
    model = make_model()
    model.compile()
    optimizer = model.optimizer
    assert optimizer.nesterov and optimizer.momentum == 0.937
    assert optimizer.coupled_weight_decay == 5e-4 and optimizer.decay_kernels_only
    assert float(optimizer._learning_rate(1000)) == pytest.approx(0.01)


@pytest.mark.slow
def test_thresholds_can_be_changed_after_a_prediction(rng, thin_networks, graphs):
    model = make_model(levels=("P3",))
    images = rng.uniform(0, 255, (1, 64, 64, 3))
    model.decoder = Decoder(confidence_threshold=0.0, max_detections=7)
    assert model.predict(images, verbose=0)["num_detections"].tolist() == [7]
    model.decoder = Decoder(confidence_threshold=1.0, max_detections=7)
    assert model.predict(images, verbose=0)["num_detections"].tolist() == [0]


@pytest.mark.slow
def test_mixed_precision_trains(thin_networks):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = make_model()
    assert model.network.get_layer("stage3_c3_cv1_conv").compute_dtype == "bfloat16"
    model.compile()
    loss = model.train_on_batch(np.full((2, 64, 64, 3), 99.0), make_truth(2))
    assert np.isfinite(loss).all()


def test_backbone_levels_have_their_strides(thin_networks):
    backbone = YOLOV5SPDBackbone(TINY, input_shape=(64, 96, 3))
    for level, name in backbone.pyramid_level_inputs.items():
        stride = 2 ** int(level[1:])
        assert backbone.get_layer(name).output.shape[1:3] == (64 // stride, 96 // stride)
    assert backbone.output is backbone.get_layer(backbone.pyramid_level_inputs["P5"]).output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "q"}, "'n', 's', 'm', 'l', 'x', or a pair"),
        ({"size": (0, 1)}, "pair of a depth"),
        ({"classes": 0}, "`classes` must be an integer"),
        ({"class_names": "ab"}, "one name for each of classes=80"),
        ({"classes": 3, "class_names": ["a", "b", "a"]}, "more than once: 'a'"),
        ({"classes": 2, "class_names": [1, 2]}, "one name for each of classes=2"),
        ({"input_shape": (100, 64, 3)}, "multiples of 32"),
        ({"head": "ssd"}, "`head` must be one of"),
        ({"levels": ("P3", "P5")}, "`levels` must be one or several successive"),
        ({"anchors": {"P3": [[1, 2]]}}, "must map each of P3, P4, P5"),
        ({"downsampling": "pool"}, "`downsampling` must be one of"),
        ({"bounding_box_format": "coco"}, "`bounding_box_format` must be one of"),
        ({"weights": "missing.keras"}, "There is no file missing.keras"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        YOLOV5SPD(**options)


def test_bad_images_and_losses(thin_networks):
    model = make_model()
    with pytest.raises(ValueError, match="multiples of 32.*Predictor"):
        model(np.zeros((1, 60, 64, 3)))
    with pytest.raises(ValueError, match="must be a `keras_spd.detection.YOLOV5Loss`"):
        model.compile(loss="mse")
    with pytest.raises(ValueError, match="3 classes, but the loss has num_classes=4"):
        model.compile(loss=YOLOV5Loss(4))
    with pytest.raises(ValueError, match="anchors of the loss differ"):
        anchors = {level: ((1, 1), (2, 2), (3, 3)) for level in model.levels}
        model.compile(loss=YOLOV5Loss(3, anchors=anchors))
    with pytest.raises(ValueError, match="name each of the 3 classes"):
        model.info = dataclasses.replace(model.info, class_names=("a",))


@pytest.mark.slow
def test_torch_weights_of_another_size_name_the_right_call():
    state_dict, _, _ = reference.load("yolov5_spd_s")
    model = YOLOV5SPD("n", classes=3)
    with pytest.raises(ValueError, match=r'YOLOV5SPD\(size="s", classes=80\)'):
        load_torch_weights(model, state_dict)


@pytest.mark.slow
def test_torch_weights_bring_their_anchors():
    state_dict, _, _ = reference.load("yolov5_spd_n")
    model = YOLOV5SPD("n")
    anchors = np.arange(1, 19, dtype="float16").reshape(3, 3, 2)
    load_torch_weights(model, {**state_dict, "model.30.anchors": anchors})
    assert model.anchors["P3"][0] == (8.0, 16.0) and model.anchors["P5"][2] == (544.0, 576.0)


@pytest.mark.slow
def test_another_backbone(tmp_path, thin_networks):
    """YOLOv5's neck and head on a converted network of keras.applications."""
    strided = keras.applications.MobileNetV2(
        weights=None, include_top=False, alpha=0.35, input_shape=(None, None, 3)
    )
    info = ModelInfo(input_range=(0, 255))
    converted = keras_spd.to_spd(ImageModel(strided.inputs, strided.outputs, info=info))
    model = YOLOV5SPD("n", classes=2, class_names=["a", "b"], backbone=converted)
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype("float32")
    raw = model(images)
    assert {level: tuple(value.shape[1:3]) for level, value in raw.items()} == {
        "P3": (8, 12),
        "P4": (4, 6),
        "P5": (2, 3),
    }
    kernel = converted.get_layer("Conv1").conv.kernel
    assert model.network.get_layer("Conv1").conv.kernel is kernel  # it starts with its weights
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images)["P4"], raw["P4"], rtol=1e-5, atol=1e-6)

    shallow = keras.Model(strided.input, strided.get_layer("block_3_expand").output)
    with pytest.raises(ValueError, match="`backbone` has no layer at 1/8, 1/16, 1/32"):
        YOLOV5SPD("n", classes=2, backbone=shallow)
    with pytest.raises(ValueError, match="are for YOLOv5's own backbone"):
        YOLOV5SPD("n", weights="bccd", backbone=converted)
    with pytest.raises(ValueError, match="`downsampling` must be one of 'spd', 'strided'"):
        YOLOV5SPD("n", classes=2, backbone=converted, downsampling="stride")


@pytest.mark.slow
def test_the_network_of_a_detector_as_backbone(thin_networks):
    first = YOLOV5SPD("n", classes=2, input_shape=(64, 64, 3))
    second = YOLOV5SPD("n", classes=3, backbone=first.network)
    third = YOLOV5SPD("n", classes=4, backbone=second.network)
    images = np.zeros((1, 64, 64, 3), "float32")
    assert third(images)["P3"].shape == (1, 8, 8, 3, 9)
