"""Every head: raw predictions become the same boxes everywhere, and the loss trains them."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

import keras_spd
from keras_spd.applications import YOLOV5SPD, Detector
from keras_spd.detection import Decoder
from keras_spd.detection.heads import HEADS, find_head, retinanet
from keras_spd.detection.heads.retinanet import encode

KERAS_CV_HEADS = ("yolov8", "retinanet")
LEVELS = ("P3", "P4", "P5")
SIZE = (64, 96)
BOXES = np.array([[[8, 8, 40, 40], [30, 20, 60, 50], [-1] * 4], [[3, 3, 9, 12], *[[-1] * 4] * 2]])
TRUTH = {"boxes": BOXES.astype("float32"), "classes": np.array([[0, 2, -1], [1, -1, -1]])}


def raw_predictions(head, rng, classes=3):
    """Random raw predictions of two images."""
    outputs = HEADS[head].loss_type.box_outputs + classes
    anchors = len(HEADS[head].build(LEVELS).sides("P3"))
    sides = {"P3": (8, 12), "P4": (4, 6), "P5": (2, 3)}
    return {
        level: ops.convert_to_tensor(
            rng.normal(0, 1, (2, *side, anchors, outputs)).astype("float32")
        )
        for level, side in sides.items()
    }


def perfect_predictions(head, box, level="P3", cell=(3, 2)):
    """Raw predictions of one image with a single box, confident of class 1."""
    raw = {
        level: np.full(x.shape, -9, "float32")
        for level, x in raw_predictions(head, np.random.default_rng(0)).items()
    }
    raw[level][0, cell[0], cell[1], 0, -3:] = -9, 9, -9
    built = HEADS[head].build(LEVELS)
    centre = (np.array(cell[::-1]) + 0.5) * 8
    numbers = raw[level][0, *cell, 0]
    if head == "yolov8":
        distances = np.concatenate([centre - box[:2], box[2:] - centre]) / 8
        bins = np.full((4, 16), -30, "float32")
        for side, distance in enumerate(distances):
            low = int(distance)
            bins[side, low : low + 2] = np.log([1 - distance + low + 1e-9, distance - low + 1e-9])
        numbers[:64] = bins.ravel()
    else:
        width, height = built.sides(level)[0]
        anchor = [*(centre - [width / 2, height / 2]), *(centre + [width / 2, height / 2])]
        numbers[:4] = ops.convert_to_numpy(
            encode(ops.convert_to_tensor(box), ops.convert_to_tensor(np.array(anchor, "float32")))
        )
    return raw


@pytest.mark.parametrize("head", KERAS_CV_HEADS)
def test_a_box_that_is_encoded_is_found(head):
    box = np.array([9, 17, 35, 41], "float32")
    raw = perfect_predictions(head, box)
    decoded = HEADS[head].build(LEVELS).decode(raw)
    found = Decoder(0.5).detections(decoded, SIZE, "xyxy")
    assert found["num_detections"][0] == 1 and found["classes"][0][0] == 1
    np.testing.assert_allclose(found["boxes"][0][0], box, atol=1e-3)


@pytest.mark.slow
def test_decoding_is_that_of_keras_cv(rng):
    """Of its YOLOV8Detector and RetinaNet, whose functions need images of known size."""
    from keras_cv.src import bounding_box
    from keras_cv.src.models.object_detection.yolo_v8 import yolo_v8_detector as yolov8

    raw = raw_predictions("yolov8", rng)
    flat = ops.concatenate([ops.reshape(raw[level], (2, -1, 67)) for level in LEVELS], axis=1)
    points, strides = yolov8.get_anchors((*SIZE, 3))
    distances = yolov8.decode_regression_to_boxes(flat[..., :64])
    expected = yolov8.dist2bbox(distances, points) * strides[:, None]
    received = HEADS["yolov8"].build(LEVELS).decode(raw)
    corners = keras_spd.boxes.convert_boxes(received[..., :4], "center_xywh", "xyxy", SIZE)
    np.testing.assert_allclose(corners, expected, atol=1e-3)
    np.testing.assert_allclose(received[..., 5:], ops.sigmoid(flat[..., 64:]), atol=1e-6)

    raw = raw_predictions("retinanet", rng)
    head = HEADS["retinanet"].build(LEVELS)
    flat = ops.concatenate([ops.reshape(raw[level], (2, -1, 7)) for level in LEVELS], axis=1)
    expected = bounding_box.converters._decode_deltas_to_boxes(
        anchors=head.corners(raw),
        boxes_delta=flat[..., :4],
        anchor_format="xyxy",
        box_format="center_xywh",
        variance=[0.1, 0.1, 0.2, 0.2],
    )
    np.testing.assert_allclose(head.decode(raw)[..., :4], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("head", KERAS_CV_HEADS)
def test_the_loss_knows_a_good_prediction(head, rng):
    box = np.array([9, 17, 35, 41], "float32")
    truth = {"boxes": box[None, None], "classes": np.array([[1]])}
    loss = HEADS[head].build(LEVELS).loss(3, "xyxy")
    good = {level: x[:1] for level, x in perfect_predictions(head, box).items()}
    bad = {level: x[:1] for level, x in raw_predictions(head, rng).items()}
    assert float(loss(truth, good)) < 0.3 * float(loss(truth, bad))
    moved = {**truth, "boxes": truth["boxes"] + 100}  # beyond the image
    for nothing in (moved, {"boxes": np.zeros((1, 0, 4)), "classes": np.zeros((1, 0), "int32")}):
        parts = loss.components(nothing, good)
        assert float(parts["box_loss"]) == 0 and np.isfinite(float(parts["class_loss"]))


def test_the_loss_of_retinanet_is_that_of_its_paper(rng):
    """Focal loss over all anchors that are not ignored, and smooth L1; per positive anchor."""
    raw, loss = raw_predictions("retinanet", rng), HEADS["retinanet"].build(LEVELS).loss(3, "xyxy")
    codes, classes = map(ops.convert_to_numpy, loss.encode_truth(TRUTH, raw))
    flat = np.concatenate([np.reshape(raw[level], (2, -1, 7)) for level in LEVELS], axis=1)
    found, ignored = classes >= 0, classes == retinanet._IGNORED
    assert found.sum() > 3 and ignored.sum() > 3
    probabilities = 1 / (1 + np.exp(-flat[..., 4:].astype("float64")))
    truth = np.arange(3) == classes[..., None]
    right = np.where(truth, probabilities, 1 - probabilities)
    focal = -np.where(truth, 0.25, 0.75) * (1 - right) ** 2 * np.log(right)
    error = np.abs(codes - flat[..., :4])
    smooth = np.where(error < 1, error**2 / 2, error - 0.5).mean(-1)
    parts = loss.components(TRUTH, raw)
    for name, sum_ in (("class_loss", focal[~ignored].sum()), ("box_loss", smooth[found].sum())):
        assert float(parts[name]) == pytest.approx(sum_ / found.sum(), rel=1e-4)


def test_the_loss_of_yolov8_is_that_of_its_authors(rng, monkeypatch):
    """Cross-entropy and 1 - CIoU, weighted by the targets of keras-cv; per sum of these."""
    import keras_cv

    encoded, encode = [], keras_cv.models.yolov8.LabelEncoder.__call__
    monkeypatch.setattr(
        keras_cv.models.yolov8.LabelEncoder,
        "__call__",
        lambda self, *args, **options: (
            encoded.append(encode(self, *args, **options)) or encoded[-1]
        ),
    )
    draws = [raw_predictions("yolov8", rng) for _ in range(8)]
    raw = {level: ops.concatenate([draw[level] for draw in draws]) for level in LEVELS}
    truth = {name: np.concatenate([part] * 8) for name, part in TRUTH.items()}
    head = HEADS["yolov8"].build(LEVELS)
    parts = head.loss(3, "xyxy").components(truth, raw)
    boxes, scores = (np.asarray(part, "float64") for part in encoded[0][:2])
    logits = np.concatenate([np.reshape(raw[level], (16, -1, 67)) for level in LEVELS], axis=1)
    logits = logits[..., 64:]
    total = scores.sum()
    assert total > 1.5  # it is 1 at least
    entropy = np.maximum(logits, 0) - logits * scores + np.log1p(np.exp(-np.abs(logits)))
    assert float(parts["class_loss"]) == pytest.approx(0.5 * entropy.sum() / total, rel=1e-4)
    decoded = keras_spd.boxes.convert_boxes(head.decode(raw)[..., :4], "center_xywh", "xyxy", SIZE)
    weights = scores.sum(-1)
    found = weights > 0
    error = 1 - ciou(ops.convert_to_numpy(decoded).astype("float64")[found], boxes[found])
    expected = 7.5 * (weights[found] * error).sum() / total
    assert float(parts["box_loss"]) == pytest.approx(expected, rel=1e-3)


def ciou(boxes, others):
    """Complete IoU of pairs of xyxy boxes (Zheng et al., 2020)."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = boxes.T, others.T
    width = np.minimum(x2, u2) - np.maximum(x1, u1)
    height = np.minimum(y2, v2) - np.maximum(y1, v1)
    both = width.clip(0) * height.clip(0)
    iou = both / ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - both)
    diagonal = (np.maximum(x2, u2) - np.minimum(x1, u1)) ** 2
    diagonal += (np.maximum(y2, v2) - np.minimum(y1, v1)) ** 2
    distance = ((x1 + x2 - u1 - u2) ** 2 + (y1 + y2 - v1 - v2) ** 2) / 4
    angle = np.arctan((u2 - u1) / (v2 - v1)) - np.arctan((x2 - x1) / (y2 - y1))
    ratio = 4 / np.pi**2 * angle**2
    return iou - distance / diagonal - ratio**2 / (ratio - iou + 1)


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_without_a_single_box(head, rng):
    raw, loss = raw_predictions(head, rng), HEADS[head].build(LEVELS).loss(3, "xyxy")
    count = len(next(iter(raw.values())))
    nothing = {"boxes": np.zeros((count, 0, 4)), "classes": np.zeros((count, 0), "int32")}
    padded = {"boxes": np.full((count, 8, 4), -1.0), "classes": np.full((count, 8), -1)}
    expected = loss.components(padded, raw)
    for part, value in loss.components(nothing, raw).items():
        assert float(value) == pytest.approx(float(expected[part]))


@pytest.mark.parametrize("head", KERAS_CV_HEADS)
def test_losses_of_other_formats_and_padding_are_equal(head, rng):
    raw, built = raw_predictions(head, rng), HEADS[head].build(LEVELS)
    expected = built.loss(3, "xyxy").components(TRUTH, raw)
    boxes = keras_spd.boxes.convert_boxes(TRUTH["boxes"], "xyxy", "rel_xywh", SIZE)
    other = {"boxes": boxes, "classes": TRUTH["classes"]}
    unpadded = {"boxes": TRUTH["boxes"][:, :2], "classes": TRUTH["classes"][:, :2]}
    for box_format, truth in (("rel_xywh", other), ("xyxy", unpadded)):
        received = built.loss(3, box_format).components(truth, raw)
        for part in ("box_loss", "class_loss"):
            assert float(received[part]) == pytest.approx(float(expected[part]), rel=1e-4)


def test_targets_of_retinanet_are_those_of_keras_cv(rng):
    """Where an anchor overlaps each box by half; keras-cv gives others no anchor."""
    import keras_cv

    raw, head = raw_predictions("retinanet", rng), HEADS["retinanet"].build(LEVELS)
    boxes = np.array([[[4, 20, 36, 52], [28, 4, 92, 60]]], "float32")
    truth = {"boxes": np.repeat(boxes, 2, axis=0), "classes": np.array([[0, 2]] * 2)}

    class Anchors:
        bounding_box_format = "xyxy"

        def __call__(self, image_shape):
            return {"all": head.corners(raw)}

    encoder = keras_cv.models.retinanet.LabelEncoder("xyxy", Anchors())
    given = {"boxes": truth["boxes"], "classes": truth["classes"].astype("float32")}
    codes, classes = encoder(np.zeros((2, *SIZE, 3), "float32"), given)
    received = head.loss(3, "xyxy").encode_truth(truth, raw)
    np.testing.assert_array_equal(received[1], classes)
    found = np.array(classes) >= 0
    assert found.sum() > 10
    np.testing.assert_allclose(np.array(received[0])[found], np.array(codes)[found], atol=1e-4)


@pytest.mark.parametrize("side", [8, 12, 16, 24, 64, 128, 256, 500])
def test_objects_of_all_sizes_are_learned_from_the_start(side):
    """A new head of YOLOv8 predicts its initial biases, and each object is assigned to some."""
    head = HEADS["yolov8"].build(LEVELS)
    raw = {}
    for level, cells in {"P3": 80, "P4": 40, "P5": 20}.items():
        outputs = np.zeros((1, cells, cells, 1, 65), "float32")
        outputs[..., :64], outputs[..., 64:] = head.box_bias(level), head.class_bias(level, 1)
        raw[level] = ops.convert_to_tensor(outputs)
    box = np.array([[[101, 102, 101 + side, 102 + side]]], "float32")
    truth = {"boxes": box, "classes": np.array([[0]])}
    assert head.loss_type(1).components(truth, raw)["box_loss"] > 0.1


@pytest.mark.parametrize(("head", "factor"), [("yolov5", 2), ("yolov8", 2), ("retinanet", 1)])
def test_the_loss_is_the_sum_of_its_parts(head, factor, rng):
    """Times the number of images, except for RetinaNet."""
    raw, loss = raw_predictions(head, rng), HEADS[head].build(LEVELS).loss(3, "xyxy")
    parts = sum(float(part) for part in loss.components(TRUTH, raw).values())
    assert float(loss(TRUTH, raw)) == pytest.approx(factor * parts, rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_heads_survive_their_config(head):
    built = HEADS[head].build(LEVELS)
    assert find_head(built.get_config(), LEVELS) == built


@pytest.mark.parametrize("head", HEADS)
def test_one_class_has_two_axes_too(head, rng):
    raw = raw_predictions(head, rng, classes=1)
    found = Decoder(0.2).detections(HEADS[head].build(LEVELS).decode(raw), SIZE, "xyxy")
    assert found["num_detections"][0] > 0 and (np.array(found["classes"]) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("head", KERAS_CV_HEADS)
def test_a_detector_of_another_head(head, thin_networks, tmp_path, rng):
    """It learns, survives saving with its names, is compiled anew, and its file finds its boxes."""
    model = YOLOV5SPD(
        "n",
        classes=3,
        class_names=("a", "b", "c"),
        head=head,
        levels=("P3",),
        input_shape=(64, 64, 3),
    )
    images = rng.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    model.compile(keras.optimizers.Adam(3e-3))
    losses = model.fit(images, TRUTH, batch_size=2, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    scores = model.evaluate(images, TRUTH, return_dict=True, verbose=0)
    assert {"loss", "box_loss", "class_loss", "AP", "AP50"} <= set(scores)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, Detector) and loaded.head == model.head
    assert loaded.info.class_names == ("a", "b", "c") and loaded.compiled
    assert type(loaded.loss) is HEADS[head].loss_type and loaded.optimizer.built
    for one in (model, loaded):
        one.decoder = dataclasses.replace(one.decoder, confidence_threshold=1e-4)
    expected = model.predict(images, verbose=0)
    assert (expected["num_detections"] > 0).all()
    np.testing.assert_allclose(loaded.predict(images, verbose=0)["boxes"], expected["boxes"])
    if keras.backend.backend() == "tensorflow":
        bias = loaded.network.get_layer("head_p3_class_conv").bias
        bias.assign(bias + 7.0)  # only boxes of confidence 0.1 and more are compared
        loaded.decoder = Decoder(0.1, 1.0, 576, multi_label=False)  # NMS drops none
        file = keras_spd.export.export_tflite(loaded, tmp_path / "model.tflite")
        comparison = keras_spd.export.verify_tflite(file, loaded, images)
        assert comparison.agreement > 0.95 and comparison.compared > 100


@pytest.mark.slow
@pytest.mark.parametrize("head", KERAS_CV_HEADS)
def test_weights_of_another_head_give_backbone_and_neck(head, thin_networks, tmp_path, caplog):
    trained = YOLOV5SPD("n", classes=2, class_names=("a", "b"))
    trained.save(tmp_path / "trained.keras")
    model = YOLOV5SPD(
        "n", classes=2, class_names=("a", "b"), head=head, weights=tmp_path / "trained.keras"
    )
    assert "all except head_p3, head_p4, head_p5, which are initialised" in caplog.text
    for name in ("stage4_c3_cv1_conv", "bottom_up_p5_c3_cv1_conv"):
        received, given = (m.network.get_layer(name).kernel for m in (model, trained))
        np.testing.assert_array_equal(received, given)
    model.save(tmp_path / "model.keras")
    other = YOLOV5SPD(
        "n", classes=3, class_names=("c", "b", "a"), head=head, weights=tmp_path / "model.keras"
    )
    received, given = (m.network.get_layer("head_p4_class_conv").kernel for m in (other, model))
    groups = len(model.head.sides("P4"))
    received, given = (
        np.array(k).reshape(-1, groups, k.shape[-1] // groups) for k in (received, given)
    )
    np.testing.assert_array_equal(received[..., [2, 1]], given)
    for name in ("head_p4_box_conv", "tower_p5_class2_conv"):
        received, given = (m.network.get_layer(name).kernel for m in (other, model))
        np.testing.assert_array_equal(received, given)


@pytest.mark.slow
def test_gradients_of_yolov8_are_clipped(thin_networks):
    """Otherwise the first epochs, with a high rate for biases, ruin batch norm statistics."""
    for head, norm in (("yolov8", 10.0), ("yolov5", None)):
        model = YOLOV5SPD("n", classes=3, head=head)
        model.compile()
        assert model.optimizer.global_clipnorm == norm


@pytest.mark.slow
def test_bad_losses_and_anchors(thin_networks):
    model = YOLOV5SPD("n", classes=3, head="yolov8")
    with pytest.raises(ValueError, match="must be a `keras_spd.detection.YOLOV8Loss`"):
        model.compile(loss=keras_spd.detection.YOLOV5Loss(3))
    with pytest.raises(ValueError, match="`YOLOV8Loss`.*has no `objectness_gain`"):
        model.head.loss(3, "xyxy", objectness_gain=1.0)
    with pytest.raises(ValueError, match='`head="yolov8"` has no anchors'):
        YOLOV5SPD("n", head="yolov8", anchors={level: [[8, 8]] for level in LEVELS})


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="sizes are always known")
def test_yolov8_says_that_it_needs_known_sizes(rng):
    import tensorflow as tf

    loss, raw = HEADS["yolov8"].build(LEVELS).loss(3, "xyxy"), raw_predictions("yolov8", rng)
    unknown = {level: tf.TensorSpec((2, None, None, 1, x.shape[-1])) for level, x in raw.items()}
    with pytest.raises(ValueError, match="whose height and width are known"):
        tf.function(lambda raw: loss.components(TRUTH, raw)).get_concrete_function(unknown)


def test_other_heads_are_refused():
    with pytest.raises(ValueError, match="must be one of 'yolov5', 'yolov8', 'retinanet'.*'ssd'"):
        find_head({"name": "ssd"}, ("P3",))
    assert find_head("yolov8", ("P3", "P4")) == find_head({"name": "yolov8"}, ("P3", "P4"))
    head = find_head(None, ("P3", "P4"))
    with pytest.raises(ValueError, match="levels of the network, P3, P4, P5.*head with P3, P4"):
        find_head(head, ("P3", "P4", "P5"))


@pytest.mark.parametrize("head", KERAS_CV_HEADS)
def test_ragged_boxes_name_the_function_to_call(head, rng):
    import tensorflow as tf

    boxes = tf.ragged.constant([[[1.0, 1, 9, 9]], []], ragged_rank=1, inner_shape=(4,))
    with pytest.raises(ValueError, match="keras_spd.data.to_dense"):
        HEADS[head].build(LEVELS).loss(3, "xyxy").components(
            {"boxes": boxes, "classes": boxes[..., 0]}, raw_predictions(head, rng)
        )
