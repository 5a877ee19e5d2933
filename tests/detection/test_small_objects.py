"""Comparisons of boxes and assignment for small objects, against public implementations."""

import keras
import numpy as np
import pytest
import reference
from keras import ops

from keras_spd.boxes import normalized_wasserstein, wise_iou, wise_iou_focus
from keras_spd.detection import YOLOV5Loss
from keras_spd.detection.anchors import DEFAULT_ANCHORS, level_stride
from keras_spd.detection.box_loss import compare_boxes, mean_iou_loss
from keras_spd.detection.receptive_fields import (
    RECEPTIVE_FIELDS,
    divergence,
    match_receptive_fields,
)

RUNS = (("P2", "P3", "P4"), ("P3", "P4", "P5"))
IOUS = ["ciou", "wiou", "nwd", {"ciou": 0.5, "nwd": 0.5}]
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="gradients by GradientTape"
)


@pytest.fixture(scope="module")
def numbers():
    return dict(np.load(reference.FIXTURES / "detection" / "small_objects.npz"))


def boxes_of(numbers):
    return (ops.convert_to_tensor(numbers[n].astype("float32")) for n in ("predicted", "target"))


def wise_iou_v3(predicted, target):
    mean = mean_iou_loss([(predicted, target, ops.ones(len(predicted)))])
    return compare_boxes(predicted, target, {"wiou": 1.0}, 12.8, mean)[0]


@pytest.mark.parametrize("constant", [12.8, 30.0])
def test_wasserstein_loss_is_that_of_its_authors(numbers, constant):
    similarity = np.array(normalized_wasserstein(*boxes_of(numbers), constant))
    expected = numbers[f"nwd_loss_{constant}".replace(".", "_")]
    np.testing.assert_allclose(1 - similarity, expected, atol=1e-6)


def test_wise_iou_is_that_of_its_authors(numbers):
    np.testing.assert_allclose(wise_iou(*boxes_of(numbers))[0], numbers["wiou_v1"], atol=2e-6)
    np.testing.assert_allclose(wise_iou_v3(*boxes_of(numbers)), numbers["wiou_v3"], atol=5e-6)


@on_tensorflow
def test_gradients_of_wise_iou_are_those_of_its_authors(numbers):
    import tensorflow as tf

    predicted, target = boxes_of(numbers)
    with tf.GradientTape() as tape:
        tape.watch(predicted)
        loss = tf.reduce_sum(wise_iou_v3(predicted, target))
    expected = numbers["wiou_v3_gradient"]
    np.testing.assert_allclose(tape.gradient(loss, predicted), expected, atol=1e-5)


def test_focus_is_on_boxes_of_medium_quality():
    focus = np.array(wise_iou_focus(ops.convert_to_tensor([1.0, 0.4, 0.0]), 0.4))
    assert focus[0] == 0 and focus[1] == focus.max() and focus[2] < focus[1]


@on_tensorflow
@pytest.mark.parametrize("iou", IOUS, ids=str)
def test_gradients_of_degenerate_boxes_are_finite(iou):
    import tensorflow as tf

    weights = {iou: 1.0} if isinstance(iou, str) else iou
    predicted = tf.constant([[8.0, 8, 4, 4], [8, 8, 0, 0], [8, 8, 4, 0], [1e6, 8, 4, 4]])
    target = tf.constant([[8.0, 8, 4, 4], [8, 8, 4, 4], [8, 8, 0, 0], [8, 8, 4, 4]])
    for mean in (0.0, 0.5):
        with tf.GradientTape() as tape:
            tape.watch(predicted)
            losses, overlap = compare_boxes(predicted, target, weights, 12.8, mean)
        assert np.isfinite(tape.gradient(losses, predicted)).all()
        assert np.isfinite(losses).all() and (np.array(overlap) <= 1).all()


def assign(boxes, levels, mask=None):
    """Returns the cells that learn each center_xywh box, for images of 192x256 pixels.

    Args:
        boxes: Array of shape `(images, boxes, 4)`.

    Returns:
        `{(image, index of the box): {(level, row, column)}}`.
    """
    boxes = np.array(boxes, "float32")
    anchors = {level: np.array(DEFAULT_ANCHORS[level], "float32") for level in levels}
    targets = match_receptive_fields(
        ops.convert_to_tensor(boxes),
        ops.convert_to_tensor(np.tile(np.arange(boxes.shape[1], dtype="int32"), (len(boxes), 1))),
        ops.convert_to_tensor(np.ones(boxes.shape[:2], bool) if mask is None else mask),
        {level: ops.convert_to_tensor(sides) for level, sides in anchors.items()},
        {level: (192 // level_stride(level), 256 // level_stride(level)) for level in levels},
    )
    found = {}
    for level, one in targets.items():
        cells, labels = np.array(one.cell) // 3, np.array(one.classes)
        for image, candidate in np.argwhere(np.array(one.mask)):
            place = divmod(int(cells[image, candidate]), 256 // level_stride(level))
            box = int(image), int(labels[image, candidate])
            found.setdefault(box, set()).add((int(level[1:]), *place))
    return found


def can_be_predicted(box, level, row, column):
    """Whether YOLOv5's head can predict a box from a cell."""
    stride = 2**level
    centre = (np.array([column, row]) + 0.5) * stride
    near = (np.abs(box[:2] - centre) < stride).all()
    return near and (box[2:] < 4 * np.array(DEFAULT_ANCHORS[f"P{level}"])).all(axis=1).any()


def test_cells_are_those_of_the_authors_where_the_head_can_predict_the_box(numbers):
    compared = 0
    for run, levels in enumerate(RUNS):
        ours = assign(numbers["rfla_boxes"], levels)
        theirs = {}
        for row in numbers["rfla_cells"][numbers["rfla_cells"][:, 0] == run].tolist():
            theirs.setdefault(tuple(row[1:3]), set()).add(tuple(row[3:]))
        for (image, label), cells in theirs.items():
            if all(can_be_predicted(numbers["rfla_boxes"][image, label], *cell) for cell in cells):
                assert ours[image, label] == cells
                compared += 1
    assert compared > 60


def test_divergence_is_that_of_the_authors(numbers):
    _, target = boxes_of(numbers)
    similarity = 1 / (1 + np.array(divergence(target[:3], ops.convert_to_tensor([40.0, 40]), 10.0)))
    np.testing.assert_allclose(similarity, numbers["kl_similarity"][:, 0], atol=1e-6)


@pytest.mark.slow
def test_receptive_fields_are_those_of_the_network():
    """A NaN in the image reaches all cells that see it."""
    from keras_spd.applications import YOLOV5SPD

    network = YOLOV5SPD("n", classes=1).network
    stages = {level: f"stage{level[1:]}_c3_cv3_silu" for level in RECEPTIVE_FIELDS}
    model = keras.Model(network.input, [network.get_layer(name).output for name in stages.values()])
    image = np.zeros((1, 384, 384, 3), "float32")
    image[0, 192, 192] = np.nan
    for (level, side), features in zip(RECEPTIVE_FIELDS.items(), model(image), strict=True):
        seen = np.isnan(ops.convert_to_numpy(features)[0, ..., 0]).any(axis=0).sum()
        assert abs(seen - side / level_stride(level)) < 1


@pytest.mark.parametrize("levels", [*RUNS, ("P2",), ("P5",)], ids="-".join)
def test_each_small_box_is_learned_by_three_cells(levels):
    """Also a thin one. Padding is learned by none."""
    boxes = [[[50, 50, 1, 1], [100, 90, 2, 9], [151, 61, 9, 5], [9, 9, 9, 9]]]
    found = assign(boxes, levels, mask=np.array([[True, True, True, False]]))
    assert set(found) == {(0, 0), (0, 1), (0, 2)}
    assert all(3 <= len(cells) <= 4 for cells in found.values())


def test_a_box_too_large_for_the_anchors_is_not_learned():
    assert assign([[[96, 96, 150, 150]]], ("P2", "P3")) == {}


def load_truth():
    boxes = np.array([[[3, 4, 9, 10], [20, 20, 24, 23], [-1] * 4], [[-1] * 4] * 3], "float32")
    return {"boxes": boxes, "classes": np.array([[0, 1, -1], [-1, -1, -1]], "int32")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("iou", "assignment"),
    [("ciou", "rfla"), ("wiou", "ratio"), ("nwd", "ratio"), ({"ciou": 0.5, "nwd": 0.5}, "rfla")],
)
def test_loss_falls_as_predictions_improve(iou, assignment, rng):
    """By gradient descent on raw predictions."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("GradientTape is TensorFlow's")
    import tensorflow as tf

    gains = {"box_gain": 1.0, "objectness_gain": 100.0, "class_gain": 40.0}
    loss = YOLOV5Loss(2, iou=iou, assignment=assignment, nwd_constant=6.0, **gains)
    shapes = {"P2": (2, 16, 8, 3, 7), "P3": (2, 8, 4, 3, 7)}
    raw = {
        level: tf.Variable(rng.normal(0, 1, shape), dtype="float32")
        for level, shape in shapes.items()
    }
    losses = []
    for _ in range(6):
        with tf.GradientTape() as tape:
            parts = loss.components(load_truth(), raw)
            total = sum(parts.values())
        losses.append({name: float(part) for name, part in parts.items()})
        gradients = tape.gradient(total, list(raw.values()))
        for variable, gradient in zip(raw.values(), gradients, strict=True):
            assert np.isfinite(gradient).all()
            variable.assign_sub(20 * gradient)
    assert all(losses[-1][name] < 0.9 * first for name, first in losses[0].items())


def test_no_boxes():
    loss = YOLOV5Loss(2, iou={"wiou": 0.4, "nwd": 0.6}, assignment="rfla")
    truth = {"boxes": -np.ones((1, 2, 4), "float32"), "classes": -np.ones((1, 2), "int32")}
    parts = loss.components(truth, {"P3": np.zeros((1, 4, 4, 3, 7), "float32")})
    assert float(parts["box_loss"]) == 0 and np.isfinite(float(parts["objectness_loss"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou": "giou"}, "`iou` must be one of 'ciou', 'wiou', 'nwd', or a mix"),
        ({"iou": {"ciou": 0.5, "nwd": 0.6}}, "sum to 1"),
        ({"iou": {"ciou": 1.5, "nwd": -0.5}}, "positive"),
        ({"iou": {}}, "Received: iou={}"),
        ({"nwd_constant": 0}, "`nwd_constant` must be above 0"),
        ({"assignment": "atss"}, "`assignment` must be one of 'ratio', 'rfla'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        YOLOV5Loss(2, **options)


def test_receptive_fields_of_other_levels_are_unknown():
    anchors = {"P6": [(300, 300)]}
    loss = YOLOV5Loss(2, assignment="rfla", anchors=anchors)
    with pytest.raises(ValueError, match="for the levels P2, P3, P4, P5. Received: P6"):
        loss.components(load_truth(), {"P6": np.zeros((2, 1, 1, 1, 7), "float32")})
