"""The loss against the authors', and against bad ground truth."""

import keras
import numpy as np
import pytest
import reference
from keras import ops

from keras_spd.boxes import convert_boxes
from keras_spd.detection import YOLOV5Loss
from keras_spd.detection.anchors import DEFAULT_ANCHORS, level_stride
from keras_spd.detection.targets import match_level

LEVELS = ("P3", "P4", "P5")


def load_fixture(name):
    """Returns the arrays of a fixture, ground truth padded with -1, and raw predictions."""
    arrays = dict(np.load(reference.FIXTURES / "yolov5" / f"{name}.npz"))
    images = len(arrays["raw_p3"])
    boxes = np.full((images, 32, 4), -1, "float32")
    classes = np.full((images, 32), -1, "int32")
    filled = [0] * images
    for image, label, box in zip(
        arrays["image_index"], arrays["classes"], arrays["boxes_xyxy"], strict=True
    ):
        boxes[image, filled[image]] = box
        classes[image, filled[image]] = label
        filled[image] += 1
    raw = {level: arrays[f"raw_{level.lower()}"].transpose(0, 2, 3, 1, 4) for level in LEVELS}
    return arrays, {"boxes": boxes, "classes": classes}, raw


def make_loss(arrays, **options):
    smoothing = float(np.squeeze(arrays["label_smoothing"]))
    return YOLOV5Loss(int(arrays["num_classes"]), label_smoothing=smoothing, **options)


@pytest.mark.parametrize("name", ["loss_nc80", "loss_nc3_smooth"])
def test_authors_loss(name):
    arrays, truth, raw = load_fixture(name)
    loss = make_loss(arrays)
    parts = {key: float(value) for key, value in loss.components(truth, raw).items()}
    assert parts["box_loss"] == pytest.approx(float(arrays["box_loss"]), rel=1e-4)
    assert parts["class_loss"] == pytest.approx(float(arrays["class_loss"]), rel=1e-4)
    assert parts["objectness_loss"] == pytest.approx(float(arrays["objectness_loss"]), rel=1e-4)
    total = float(loss(truth, raw))
    assert total == pytest.approx(float(np.squeeze(arrays["total_times_batch"])), rel=1e-4)
    assert total == pytest.approx(len(raw["P3"]) * sum(parts.values()), rel=1e-6)


@pytest.mark.parametrize("name", ["loss_nc80", "loss_nc3_smooth"])
def test_authors_positives(name):
    arrays, truth, raw = load_fixture(name)
    boxes = convert_boxes(truth["boxes"], "xyxy", "center_xywh", (None, None))
    for level, expected in zip(LEVELS, arrays["positives_per_level"], strict=True):
        targets = match_level(
            boxes,
            ops.convert_to_tensor(truth["classes"]),
            ops.convert_to_tensor(truth["classes"] >= 0),
            ops.convert_to_tensor(np.array(DEFAULT_ANCHORS[level], "float32")),
            level_stride(level),
            raw[level].shape[1:3],
            4.0,
        )
        assert int(np.array(targets.mask).sum()) == expected


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="GradientTape is TensorFlow's")
@pytest.mark.parametrize("name", ["loss_nc80", "loss_nc3_smooth"])
def test_authors_gradients(name):
    import tensorflow as tf

    arrays, truth, raw = load_fixture(name)
    raw = {level: tf.Variable(value) for level, value in raw.items()}
    with tf.GradientTape() as tape:
        total = make_loss(arrays)(truth, raw)
    gradients = tape.gradient(total, raw)
    for level in LEVELS:
        norm = np.linalg.norm(tf.convert_to_tensor(gradients[level]))
        assert norm == pytest.approx(float(arrays[f"grad_{level.lower()}_l2"]), rel=1e-2)


@pytest.mark.parametrize("target", ["xywh", "rel_yxyx", "center_yxhw"])
def test_box_format_does_not_matter(target):
    arrays, truth, raw = load_fixture("loss_nc3_smooth")
    expected = make_loss(arrays).components(truth, raw)
    boxes = convert_boxes(truth["boxes"], "xyxy", target, (96, 96))
    actual = make_loss(arrays, bounding_box_format=target).components(
        {**truth, "boxes": np.where(truth["classes"][..., None] >= 0, boxes, -1)}, raw
    )
    for key, value in expected.items():
        assert float(actual[key]) == pytest.approx(float(value), rel=1e-4)


BAD_BOXES = {
    "no area": [10, 10, 10, 30],
    "reversed": [30, 30, 10, 10],
    "not a number": [float("nan"), 3, 9, 9],
    "infinite": [3, 3, float("inf"), 9],
    "outside": [200, 200, 230, 230],
    "far outside": [-1e9, -1e9, -1e8, -1e8],
}


@pytest.mark.parametrize("name", BAD_BOXES)
def test_bad_boxes_are_as_if_they_were_not_there(name):
    arrays, truth, raw = load_fixture("loss_nc3_smooth")
    expected = make_loss(arrays).components(truth, raw)
    worse = {key: value.copy() for key, value in truth.items()}
    worse["boxes"][0, -1], worse["classes"][0, -1] = BAD_BOXES[name], 1
    for key, value in make_loss(arrays).components(worse, raw).items():
        assert float(value) == pytest.approx(float(expected[key]), rel=1e-6)


def test_class_out_of_range_is_left_out():
    arrays, truth, raw = load_fixture("loss_nc3_smooth")
    worse = {key: value.copy() for key, value in truth.items()}
    worse["boxes"][0, -1], worse["classes"][0, -1] = [10, 10, 40, 40], 3
    expected = make_loss(arrays)(truth, raw)
    assert float(make_loss(arrays)(worse, raw)) == pytest.approx(float(expected), rel=1e-6)
    worse["classes"][0, -1] = 2
    assert float(make_loss(arrays)(worse, raw)) != pytest.approx(float(expected), rel=1e-3)


def test_no_box_at_all():
    arrays, truth, raw = load_fixture("loss_nc3_smooth")
    empty = {"boxes": -np.ones((3, 8, 4), "float32"), "classes": -np.ones((3, 8), "int32")}
    parts = make_loss(arrays).components(empty, raw)
    assert float(parts["box_loss"]) == 0 and float(parts["class_loss"]) == 0
    assert 0 < float(parts["objectness_loss"]) < 1


@pytest.mark.parametrize("places", [1, 100])
def test_padding_does_not_matter(places):
    arrays, truth, raw = load_fixture("loss_nc3_smooth")
    longer = {
        "boxes": np.pad(truth["boxes"], ((0, 0), (places, 0), (0, 0)), constant_values=-1),
        "classes": np.pad(truth["classes"], ((0, 0), (places, 0)), constant_values=-1),
    }
    expected = float(make_loss(arrays)(truth, raw))
    assert float(make_loss(arrays)(longer, raw)) == pytest.approx(expected, rel=1e-5)


def test_one_class_has_no_class_loss():
    _, truth, raw = load_fixture("loss_nc3_smooth")
    raw = {level: value[..., :6] for level, value in raw.items()}
    truth = {**truth, "classes": np.minimum(truth["classes"], 0)}
    parts = YOLOV5Loss(1).components(truth, raw)
    assert float(parts["class_loss"]) == 0 and float(parts["box_loss"]) > 0.01


def test_low_precision_predictions_are_computed_in_float32():
    arrays, truth, raw = load_fixture("loss_nc3_smooth")
    rounded = {level: ops.cast(value, "bfloat16") for level, value in raw.items()}
    total = make_loss(arrays)(truth, rounded)
    assert keras.backend.standardize_dtype(total.dtype) == "float32"
    exact = {level: ops.cast(value, "float32") for level, value in rounded.items()}
    assert float(total) == float(make_loss(arrays)(truth, exact))


def test_four_levels_are_scaled():
    _, truth, raw = load_fixture("loss_nc3_smooth")
    images, rows, columns = raw["P3"].shape[:3]
    finer = np.zeros((images, 2 * rows, 2 * columns, 3, 8), "float32")
    parts = YOLOV5Loss(3).components(truth, {**raw, "P2": finer})
    assert all(np.isfinite(float(part)) for part in parts.values())
    nothing = {"boxes": -np.ones((1, 1, 4), "float32"), "classes": -np.ones((1, 1), "int32")}
    zero = {f"P{n}": np.zeros((1, 64 >> n, 64 >> n, 3, 8), "float32") for n in (2, 3, 4, 5)}
    expected = 3 / 4 * (64 / 640) ** 2 * (4 + 1 + 0.25 + 0.06) * np.log(2)
    parts = YOLOV5Loss(3).components(nothing, zero)
    assert float(parts["objectness_loss"]) == pytest.approx(expected, rel=1e-5)


def test_errors_say_what_is_wrong():
    arrays, truth, raw = load_fixture("loss_nc3_smooth")
    loss = make_loss(arrays)
    with pytest.raises(ValueError, match=r"\(images, rows, columns, anchors, 9\).*num_classes=4"):
        YOLOV5Loss(4).components(truth, raw)
    with pytest.raises(ValueError, match='dictionary {"boxes"'):
        loss.components(truth["boxes"], raw)
    with pytest.raises(ValueError, match="1 to 4 levels"):
        loss.components(truth, raw["P3"])
    with pytest.raises(ValueError, match="label_smoothing"):
        YOLOV5Loss(3, label_smoothing=1.5)
    with pytest.raises(ValueError, match="must have the shapes"):
        loss.components({"boxes": truth["boxes"][0], "classes": truth["classes"][0]}, raw)


def test_ragged_boxes_name_the_function_to_call():
    import tensorflow as tf

    arrays, _, raw = load_fixture("loss_nc3_smooth")
    boxes = tf.ragged.constant([[[1.0, 1, 9, 9]], [], []], ragged_rank=1, inner_shape=(4,))
    with pytest.raises(ValueError, match="keras_spd.data.to_dense"):
        make_loss(arrays).components({"boxes": boxes, "classes": boxes[..., 0]}, raw)


def test_config_round_trip():
    anchors = {level: ((7.0, 8.0), (9.0, 10.0)) for level in LEVELS}
    loss = YOLOV5Loss(
        5, "xywh", anchors=anchors, label_smoothing=0.1, box_gain=1, objectness_gain=2,
        class_gain=3, ratio_threshold=5, class_weights=(1, 2, 3, 4, 5),
        iou={"ciou": 0.25, "nwd": 0.75}, nwd_constant=9.0, assignment="rfla", name="other",
    )  # fmt: skip
    twin = YOLOV5Loss.from_config(loss.get_config())
    assert twin.get_config() == loss.get_config()
    defaults = YOLOV5Loss(80).get_config()
    same = [key for key in defaults if defaults[key] == loss.get_config()[key]]
    assert same == ["reduction"], "tested off their defaults"
