"""Weights of classes, and a fraction of the data."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
from drawings import write_drawings
from tiny import tiny_classifier

from keras_spd import data
from keras_spd.detection.heads import HEADS
from keras_spd.losses import WeightedCrossEntropy
from keras_spd.training import load_recipe
from keras_spd.training.class_weights import find_class_weights
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.command_line import has_tiles
from keras_spd.training.detection import DetectionTask


def test_weights_of_names_and_counts():
    def count():
        return [1, 2, 0, 9]

    names = ("a", "b", "c", "d")
    assert find_class_weights(None, names, count) is find_class_weights({}, names, count) is None
    assert find_class_weights({"b": 3}, names, count) == (1, 3, 1, 1)
    weights = find_class_weights("balanced", names, count)
    assert weights == pytest.approx((4, 2, 1, 4 / 9))
    assert np.dot(weights, count()) == pytest.approx(12)  # 1 on average
    with pytest.raises(ValueError, match="names 'bb', which is not a class .*mean 'b'.* a, b"):
        find_class_weights({"bb": 1}, names, count)


@pytest.mark.parametrize("value", ["fair", {"a": 0}, {"a": "much"}, {"a": math.inf}, {"a": True}])
def test_other_values(value):
    with pytest.raises(ValueError, match="loss.class_weights.*Received"):
        load_recipe("demo", overrides={"loss.class_weights": value})


def test_the_loss_is_that_of_weighted_images(rng):
    labels, logits = np.array([0, 2, 1, 2]), rng.normal(size=(4, 3)).astype("float32")
    weights = (1.0, 2.0, 5.0)
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    expected = np.mean(np.array(sparse(labels, logits)) * [1, 5, 2, 5])
    loss = WeightedCrossEntropy(sparse, weights, soft_labels=False)
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)
    soft = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="none")
    loss = WeightedCrossEntropy(soft, weights, soft_labels=True)
    assert float(loss(np.eye(3)[labels], logits)) == pytest.approx(expected, rel=1e-5)
    mixed = np.array([[0.75, 0.25, 0]])
    expected = 1.25 * float(soft(mixed, logits[:1])[0])
    assert float(loss(mixed, logits[:1])) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_are_smoothed(rng, smoothing):
    images = rng.integers(0, 256, (6, 16, 16, 3)).astype("uint8")
    cells = data.from_arrays(images, [0, 1, 2] * 2, ("a", "b", "c"))
    recipe = load_recipe("demo", overrides={"loss.label_smoothing": smoothing})
    task, model = ClassificationTask(recipe, cells, cells), tiny_classifier(names=("a", "b", "c"))
    task.compile(model, None)
    probabilities = rng.dirichlet((1, 1, 1), 6).astype("float32")
    hot = np.eye(3)[[0, 1, 2] * 2]
    expected = -((1 - smoothing) * hot + smoothing / 3) * np.log(probabilities)
    labels = hot if smoothing else np.array([0, 1, 2] * 2)
    loss = model.compute_loss(y=labels, y_pred=probabilities)
    assert float(loss) == pytest.approx(expected.sum(axis=1).mean(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
def test_objects_of_a_class_weigh_more_in_every_head(rng, name):
    head = HEADS[name].build(("P3", "P4", "P5"))
    outputs = head.loss_type.box_outputs + 2
    raw = {
        level: rng.normal(size=(2, 64 // stride, 64 // stride, len(head.sides(level)), outputs))
        for level, stride in (("P3", 8), ("P4", 16), ("P5", 32))
    }
    raw = {level: keras.ops.convert_to_tensor(x, "float32") for level, x in raw.items()}

    def class_loss(label, weights):
        truth = {"boxes": np.array([[[8, 8, 40, 30]]] * 2, "f4"), "classes": np.full((2, 1), label)}
        parts = head.loss(2, "xyxy", class_weights=weights).components(truth, raw)
        return float(parts["class_loss"])

    assert class_loss(0, (1, 3)) == pytest.approx(class_loss(0, None))
    plain, once, twice = (class_loss(1, weights) for weights in (None, (1, 2), (1, 3)))
    assert plain < once and twice - once == pytest.approx(once - plain, rel=1e-4)
    if name == "yolov5":  # background has no class loss
        assert once == pytest.approx(2 * plain)
    with pytest.raises(ValueError, match="a number for each of 2 classes"):
        class_loss(0, (1, 2, 3))


@pytest.mark.slow
def test_tasks_count_their_data(tmp_path, thin_networks):
    recipe = load_recipe("demo", overrides={"loss.class_weights": "balanced"})
    images, labels = np.zeros((6, 32, 32, 3), "uint8"), np.array([0, 0, 0, 0, 0, 1])
    task = ClassificationTask(recipe, *[data.from_arrays(images, labels)] * 2)
    assert task._class_weights == pytest.approx((0.6, 3))
    task.compile(model := task.build(), "sgd")
    assert isinstance(model.loss, WeightedCrossEntropy)
    without = dataclasses.replace(data.from_arrays(images, labels), read_labels=None)
    with pytest.raises(ValueError, match="made without `read_labels`"):
        ClassificationTask(recipe, without, without)

    file = write_drawings(tmp_path / "drawings")
    boxed = data.load_detection(file)
    fields = {"data.image_size": (64, 64), "loss.class_weights": {"disc": 2}}
    task = DetectionTask(load_recipe("short_detection", overrides=fields), boxed, boxed)
    task.compile(model := task.build(), None)
    assert model.loss.class_weights == (1, 2)
    fields["loss.class_weights"] = "balanced"
    task = DetectionTask(load_recipe("short_detection", overrides=fields), boxed, boxed)
    boxes = json.loads(file.read_text())["annotations"]
    counts = np.bincount([box["category_id"] for box in boxes])
    assert len(set(counts)) == len(counts) == 2
    assert task._class_weights == pytest.approx(tuple(8 / counts))


def test_a_fraction_of_the_data():
    images, labels = np.zeros((40, 8, 8, 3), "uint8"), np.repeat([0, 1], [30, 10])
    train, test = data.from_arrays(images, labels), data.from_arrays(images, labels)
    fields = {"data.fraction": 0.2, "data.validation": 0.5}
    splits = ClassificationTask(load_recipe("demo", overrides=fields), train, test).splits
    assert (splits.train.num_images, splits.validation.num_images) == (4, 20)
    assert sorted(splits.train.read_labels()) == [0, 0, 0, 1]
    with pytest.raises(ValueError, match=r"data.fraction: Input should be less than 1. Received"):
        load_recipe("demo", overrides={"data.fraction": 1.5})


def test_a_fraction_of_images_that_are_cut_into_tiles(tmp_path):
    """Whole images are chosen, the same in a resumed run, and none that is held out."""
    boxed = data.load_detection(write_drawings(tmp_path / "drawings", 10))
    fields = {"data.fraction": 0.5, "data.validation": 0.2, "data.image_size": (64, 64)}
    fields |= {"data.tile": (64, 64), "data.tile_empty": 1.0}
    recipe = load_recipe("short_detection", overrides=fields)
    first, again = (DetectionTask(recipe, boxed, boxed) for _ in range(2))
    names = [image.name for image in first.train_data.images]
    assert names == [image.name for image in again.train_data.images]
    parents = {image.whole.name for image in first.train_data.images}
    assert len(parents) == 4 and len(names) > 4
    assert not parents & {image.name for image in first.splits.validation.images}
    none = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0, int), "crowd": np.zeros(0, bool)}
    empty = dataclasses.replace(boxed.images[0], **none)
    rare = dataclasses.replace(boxed, images=(boxed.images[0], *[empty] * 9))
    with pytest.raises(ValueError, match=r"no boxes in the training data that `data.fraction=0.1`"):
        DetectionTask(load_recipe("short_detection", overrides={"data.fraction": 0.1}), rare, boxed)
    one = dataclasses.replace(boxed, images=boxed.images[:1])
    with pytest.raises(ValueError, match="Images cannot be split: there is only one"):
        DetectionTask(recipe, one, boxed)


def test_a_recipe_with_tiles_reads_images_of_any_size():
    assert not has_tiles(None) and not has_tiles(load_recipe("demo"))
    assert not has_tiles(load_recipe("short_detection"))
    assert has_tiles(load_recipe("short_detection", overrides={"data.tile": (64, 64)}))


def test_a_weighted_loss_is_saved(rng):
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    loss = WeightedCrossEntropy(sparse, (1.0, 2.0), soft_labels=False)
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    batch = np.array([0, 1]), rng.normal(size=(2, 2)).astype("float32")
    assert float(again(*batch)) == float(loss(*batch))
