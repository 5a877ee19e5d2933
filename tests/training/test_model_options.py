"""`model.options` and `model.weights`: contradictions are refused, the rest is used."""

import keras
import numpy as np
import pytest
from drawings import write_drawings

from keras_spd import data
from keras_spd.applications import YOLOV5SPD
from keras_spd.detection.heads import HEADS
from keras_spd.optimizers import CoupledSGD
from keras_spd.training import command_line, fit, load_recipe
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.detection import DetectionTask


def classifier(**overrides):
    rng = np.random.default_rng(0)
    cells = data.from_arrays(rng.uniform(0, 255, (20, 16, 16, 3)), np.arange(20) % 3)
    return ClassificationTask(load_recipe("demo", overrides=overrides), cells, cells)


def detector(folder, **overrides):
    file = str(write_drawings(folder / "drawings"))
    few = {"data.train": file, "data.test": file, "data.image_size": (64, 64), "batch_size": 4}
    few |= {"model.options": {"levels": ["P3"]}}
    recipe = load_recipe("short_detection", overrides=few | {"precision": "float32"} | overrides)
    return DetectionTask(recipe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"downsample": "spd"}, "ResNet18SPD has no argument 'downsample'. It has: include_top"),
        ({"classes": 3}, "cannot set `classes`: it is read from the data"),
        ({"weights": "cifar10"}, "give it as `model.weights`"),
        ({"include_top": False}, "`model.options.include_top` must be True in training"),
        (
            {"classifier_activation": "sigmoid"},
            "must be 'softmax' or 'linear' .*Received: 'sigmoid'",
        ),
        ({"shortcut": None}, "`model.options.shortcut` cannot be null in a recipe: omit it"),
    ],
)
def test_classifier_options_that_contradict_training_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**{"model.options": options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include_rescaling": False}, "`model.options.include_rescaling` must be True .*255"),
        ({"size": "s"}, "it is part of `model.name`"),
    ],
)
def test_detector_options_that_contradict_training_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        detector(tmp_path, **{"model.options": options})


def test_a_type_error_inside_a_constructor_is_not_blamed_on_the_options(monkeypatch):
    task = classifier()
    monkeypatch.setattr(task, "build", lambda: None + 1)
    with pytest.raises(TypeError, match="unsupported operand"):
        fit.build(task)


def loss_of(task, model):
    task.compile(model, keras.optimizers.SGD(0.0))
    images, truth = next(iter(task.train_batches(0)))
    return float(model.compute_loss(images, truth, model(images)))


@pytest.mark.slow
def test_a_classifier_with_logits_has_the_loss_of_one_with_probabilities(tmp_path, thin_networks):
    losses = []
    for options in ({}, {"classifier_activation": "linear"}):
        task = classifier(**{"model.options": options})
        (tmp_path / "recipe.toml").write_text(task.recipe.to_toml())
        assert load_recipe(tmp_path / "recipe.toml").model.options == options
        keras.utils.set_random_seed(0)
        model = fit.build(task)
        losses.append(loss_of(task, model))
        losses.append(task.score(model, None)["test_loss"])
    assert losses[2:] == pytest.approx(losses[:2], rel=1e-4)


@pytest.mark.slow
def test_the_box_format_of_a_detector_changes_no_loss(tmp_path, thin_networks):
    losses = []
    for box_format in ("xyxy", "center_xywh"):
        task = detector(tmp_path / box_format, **{"model.options.bounding_box_format": box_format})
        keras.utils.set_random_seed(0)
        losses.append(loss_of(task, fit.build(task)))
        images, boxes, _ = task.preview(0)
        assert (boxes[..., 2:] >= boxes[..., :2]).all()
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.slow
def test_weights_are_what_training_starts_from(tmp_path, caplog):
    task = detector(tmp_path, **{"model.weights": "bccd", "model.options": {"anchors": ANCHORS}})
    assert "From random weights" not in caplog.text
    model = fit.build(task)
    preset = YOLOV5SPD("n", weights="bccd").network
    name = "stem_conv"
    [kernel] = [w for w in model.network.weights if w.path.startswith(name) and "kernel" in w.path]
    [theirs] = [w for w in preset.weights if w.path.startswith(name) and "kernel" in w.path]
    np.testing.assert_array_equal(kernel, theirs)
    assert model.anchors["P3"][0] == (4.0, 5.0)


ANCHORS = {
    "P3": ((4, 5), (8, 10), (13, 16)),
    "P4": ((23, 29), (43, 55), (73, 105)),
    "P5": ((146, 217), (231, 300), (335, 433)),
}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["yolov8", "retinanet"])
def test_other_heads_are_trained_with_their_own_loss(tmp_path, head, thin_networks):
    options = {"model.options.head": head, "loss.box_gain": 3.0}
    task = detector(tmp_path, **options)
    model = fit.build(task)
    task.compile(model, CoupledSGD(0.01))
    assert type(model.loss) is HEADS[head].loss_type and model.loss.box_gain == 3
    assert model.loss.class_gain == HEADS[head].loss_type(2).class_gain  # the loss's own
    assert model.info.class_names == task.train_data.class_names
    assert model.optimizer.global_clipnorm == HEADS[head].clip_norm
    task.compile(model, CoupledSGD(0.01, global_clipnorm=3.0))
    assert model.optimizer.global_clipnorm == 3
    with pytest.raises(ValueError, match="has no `objectness_gain`"):
        task = detector(tmp_path / "gain", **options, **{"loss.objectness_gain": 2.0})
        task.compile(model, CoupledSGD(0.01))
    if head == "retinanet":
        assert len(detector(tmp_path / "fit", **options, fit_anchors=True).anchors["P3"]) == 3
    else:
        with pytest.raises(ValueError, match='`fit_anchors` is for heads.*"yolov8" has none'):
            detector(tmp_path / "fit", **options, fit_anchors=True)


@pytest.mark.parametrize(("steps_per_epoch", "warmup"), [(10, 10), (400, 100)])
def test_the_warm_up_of_fine_tuning_is_short(steps_per_epoch, warmup):
    recipe = load_recipe("finetune", task="detection", overrides={"epochs": 3})
    optimizer = fit.make_optimizer(recipe, steps_per_epoch)
    assert optimizer.warmup_steps == warmup
    rate = optimizer._learning_rate
    assert float(rate(warmup)) == pytest.approx(0.01)
    assert float(rate(3 * steps_per_epoch)) == pytest.approx(0.0001)


def test_workers_connect_before_a_model_is_loaded(monkeypatch):
    called = []
    monkeypatch.setattr(command_line, "distribute", lambda: called.append("connect"))
    monkeypatch.setattr(command_line, "load_model", lambda path: called.append("load"))
    options = {"model.name": "a.keras", "data.name": "cifar10"}
    command_line.choose_recipe(options, [], model_file="a.keras")
    assert called == ["connect", "load"]
