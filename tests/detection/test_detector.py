"""The detector's own training and evaluation."""

import dataclasses

import keras
import numpy as np
import pytest
from drawings import write_drawings
from tiny import tiny_detector

import keras_spd
from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo
from keras_spd.detection import YOLOV5Loss
from keras_spd.detection.evaluation import split_into_batches


def _batch():
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    boxes = np.array([[[8, 8, 40, 40]], [[20, 4, 52, 60]]], "float32")
    return images, {"boxes": boxes, "classes": np.zeros((2, 1), "int32")}


@pytest.mark.slow
def test_regularisers_count():
    images = x = keras.Input((64, 64, 3))
    for stride in (8, 2, 2):
        x = keras.layers.Conv2D(8, 3, stride, "same")(x)
    backbone = ImageModel(images, x, info=ModelInfo(input_range=(0, 255)))
    model = YOLOV5SPD("n", classes=2, backbone=backbone)
    images, truth = _batch()
    model.compile()
    before = float(model.compute_loss(y=truth, y_pred=model(images)))
    layer = next(layer for layer in backbone.layers if hasattr(layer, "kernel"))
    layer.kernel.regularizer = keras.regularizers.L2(0.5)
    after = float(model.compute_loss(y=truth, y_pred=model(images)))
    penalty = 0.5 * float(np.square(layer.kernel).sum())
    assert after - before == pytest.approx(penalty, rel=1e-3)


def test_the_optimizer_is_built_before_a_step_is_traced():
    """A trace that creates variables would be followed by a second one, which takes as long."""
    model = tiny_detector()
    model.compile()
    model.make_train_function()
    assert model.optimizer.built


def test_an_evaluation_does_not_trace_predictions_again():
    """Scores have their own thresholds, and the detector then has its former ones again."""
    model, (images, truth) = tiny_detector(), _batch()
    model.compile()
    functions = []
    for _ in range(2):
        before = model.predict_on_batch(images)
        functions.append(model.predict_function)
        model.evaluate(images, truth, verbose=0)
    after = model.predict_on_batch(images)
    assert functions[0] is functions[1] is model.predict_function is not None
    assert before["confidence"].shape == after["confidence"].shape
    model.decoder = dataclasses.replace(model.decoder, max_detections=3)
    assert model.predict_on_batch(images)["confidence"].shape == (2, 3)
    model.compile()
    assert model.predict_function is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("cell",), r"than the model: 1 \(cell\), not 2 \(cube, ball\)"),
        (("ball", "cube"), r"than the model: 2 \(ball, cube\), not 2 \(cube, ball\)"),
    ],
)
def test_data_of_other_classes_is_refused(names, words, tmp_path):
    data = keras_spd.data.load_detection(write_drawings(tmp_path, 2))
    data = dataclasses.replace(data, class_names=names)
    model = tiny_detector()
    model.info = dataclasses.replace(model.info, class_names=("cube", "ball"))
    model.compile()
    with pytest.raises(ValueError, match=words):
        model.fit(data.batches(2, (64, 64)))


def test_boxes_of_another_format_are_refused(tmp_path):
    data = keras_spd.data.load_detection(write_drawings(tmp_path, 2))
    model = tiny_detector()
    with pytest.raises(ValueError, match="in 'xyxy', but the loss has bounding_box_format='xywh'"):
        model.compile(loss=YOLOV5Loss(2, "xywh"))
    model.compile()
    batches = data.batches(2, (64, 64), bounding_box_format="rel_xywh")
    model.info = dataclasses.replace(model.info, class_names=data.class_names)
    with pytest.raises(ValueError, match="in 'rel_xywh', those of the model in 'xyxy'. Make"):
        model.fit(batches)


def test_anchors_that_changed_after_compile_are_not_ignored():
    model = tiny_detector()
    model.compile()
    model.anchors = {"P3": ((3, 3), (5, 5), (7, 7))}
    with pytest.raises(ValueError, match="call `compile` again"):
        model.fit(*_batch())
    model.compile()
    assert model.loss.anchors == model.anchors


def test_weights_of_samples_are_refused():
    model = tiny_detector()
    model.compile()
    images, truth = _batch()
    with pytest.raises(ValueError, match="remove boxes or images instead"):
        model.compute_loss(y=truth, y_pred=model(images), sample_weight=np.ones(2))


def test_batches_are_not_shuffled_again(tmp_path, monkeypatch):
    data = keras_spd.data.load_detection(write_drawings(tmp_path, 2))
    model = tiny_detector()
    model.info = dataclasses.replace(model.info, class_names=data.class_names)
    passed = []
    monkeypatch.setattr(keras.Model, "fit", lambda self, x, **options: passed.append(options))
    model.fit(data.batches(2, (64, 64)), epochs=3)
    model.fit(_batch()[0])
    model.fit(data.batches(2, (64, 64)), shuffle=True)
    assert passed == [{"epochs": 3, "shuffle": False}, {}, {"shuffle": True}]


def test_fit_records_class_names_and_image_size(tmp_path, monkeypatch):
    """Otherwise, results would be numbers, and images of another size than those of training."""
    data = keras_spd.data.load_detection(write_drawings(tmp_path, 2))
    model = tiny_detector()
    model.info = dataclasses.replace(model.info, class_names=None)
    monkeypatch.setattr(keras.Model, "fit", lambda self, x, **options: None)
    model.fit(data.batches(2, (64, 96)))
    assert model.info.class_names == data.class_names
    assert keras_spd.Predictor(model).image_size == (64, 96)


@pytest.mark.parametrize(("steps", "count"), [(None, 4), (3, 3), (9, 4)])
def test_scores_are_those_of_the_first_steps(steps, count):
    arrays, boxes = np.arange(7), {"boxes": np.arange(7)}
    taken = list(split_into_batches(arrays, boxes, 2, steps))
    assert [images.tolist() for images, _ in taken] == [[0, 1], [2, 3], [4, 5], [6]][:count]


@pytest.mark.slow
def test_evaluation_of_a_generator():
    model = tiny_detector()
    model.compile(run_eagerly=True)
    images, truth = _batch()
    expected = model.evaluate(images, truth, batch_size=1, return_dict=True, verbose=0)
    assert expected["AP"] >= 0

    def batches():
        for row in range(2):
            yield images[row : row + 1], {k: v[row : row + 1] for k, v in truth.items()}

    received = model.evaluate(batches(), return_dict=True, verbose=0)
    assert received == pytest.approx(expected, rel=1e-4)


def test_validation_and_evaluation_data_are_checked(tmp_path):
    data = keras_spd.data.load_detection(write_drawings(tmp_path, 4))
    model = YOLOV5SPD("n", class_names=data.class_names, bounding_box_format="xywh")
    model.compile()
    fits = data.batches(2, (64, 64), bounding_box_format="xywh")
    for other in (
        data.batches(2, (64, 64)),
        dataclasses.replace(data, class_names=data.class_names[::-1]).batches(
            2, (64, 64), bounding_box_format="xywh"
        ),
    ):
        with pytest.raises(ValueError, match="boxes of the data are in|has other classes than"):
            model.fit(fits, validation_data=other)
        with pytest.raises(ValueError, match="boxes of the data are in|has other classes than"):
            model.evaluate(other)


def test_the_network_decides_the_number_of_anchors():
    model = YOLOV5SPD("n", classes=1, levels=("P3",))
    with pytest.raises(ValueError, match="boxes for 3 anchors per cell at P3. Received: 1"):
        model.anchors = {"P3": ((3, 3),)}
    with pytest.raises(ValueError, match="boxes for 3 anchors per cell at P3. Received: 2"):
        keras_spd.applications.Detector(model.network, {"P3": ((3, 3), (5, 5))})
    assert len(model.anchors["P3"]) == 3
