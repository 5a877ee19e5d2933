"""Detectors on the fit path."""

import json
import logging

import keras
import numpy as np
import pytest
from drawings import write_drawings

from keras_spd import data
from keras_spd.metrics import COCOScores
from keras_spd.surgery import count_multiply_adds
from keras_spd.training import load_recipe, train
from keras_spd.training.announce import log_cost
from keras_spd.training.coco_score import _LOGGED
from keras_spd.training.detection import DetectionTask
from keras_spd.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("thin_networks")
OVERRIDES = {
    "epochs": 4,
    "batch_size": 4,
    "precision": "float32",
    "data.image_size": (64, 96),
    "evaluate_every": 3,
}


def one_level(recipe, **data):
    """The recipe for a network of seven convolutions."""
    options = recipe.model.model_copy(update={"options": {"levels": ["P3"]}})
    update = {"model": options, "data": recipe.data.model_copy(update=data), "batch_size": 8}
    return recipe.model_copy(update=update)


@pytest.fixture
def drawings(tmp_path):
    """A recipe for drawings, and the file they are in."""
    file = write_drawings(tmp_path / "drawings")
    overrides = {**OVERRIDES, "data.train": str(file), "data.test": str(file)}
    return load_recipe("short", task="detection", overrides=overrides)


def test_images_are_augmented_as_the_recipe_says(drawings):
    task = DetectionTask(drawings)
    images, _ = next(iter(task.train_batches(1)))
    options = {"shuffle": True, "seed": drawings.seed, "first_epoch": 1}
    same, plain = (
        next(iter(task.train_data.batches(4, (64, 96), augmentation=augmentation, **options)))[0]
        for augmentation in (drawings.augmentation, None)
    )
    np.testing.assert_array_equal(images, same)
    assert np.abs(np.subtract(images, plain, dtype="float32")).max() > 10


@pytest.mark.slow
def test_training_logs_scores_and_resumes_as_if_unbroken(tmp_path, drawings):
    """In tiles: 16 of the left and right halves of 8 images."""
    drawings = one_level(drawings, tile=(64, 64), tile_empty=1.0)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    model = train(drawings, whole, verbose=0)
    rows = RunFolder(whole).read_log()
    # Two epochs have no evaluation; the third and, as the last one, the fourth have.
    assert [np.isfinite(row["val_AP"]) for row in rows] == [False, False, True, True]
    for row in rows:
        parts = row["box_loss"] + row["objectness_loss"] + row["class_loss"]
        assert row["loss"] == pytest.approx(8 * parts, rel=1e-3)
    results = json.loads((whole / "results.json").read_text())
    assert results["AP"] == pytest.approx(max(rows[2]["val_AP"], rows[3]["val_AP"]), abs=1e-3)
    assert json.loads((whole / "scores.json").read_text())["metrics"]["AP"] == results["AP"]
    assert model.info.class_names == ("rectangle", "disc")
    assert model.info.image_size == (64, 96)

    # A run of one epoch that is lengthened: the same losses as in one go.
    train(drawings.model_copy(update={"epochs": 1}), stopped, verbose=0)
    train(None, stopped, resume=True, epochs=4, verbose=0)
    assert load_recipe(stopped / "recipe.toml").epochs == 4
    for row, expected in zip(RunFolder(stopped).read_log(), rows, strict=True):
        for name in ("box_loss", "objectness_loss", "class_loss"):
            assert row[name] == pytest.approx(expected[name], rel=1e-3), name


@pytest.mark.slow
def test_an_epoch_without_an_evaluation_is_never_the_best(tmp_path, drawings, monkeypatch):
    """Its score is NaN, and no score compares as greater."""
    scores = iter([0.25, 0.5])  # after the second and the fourth epoch

    def score(*args, **kwargs):
        return COCOScores(dict.fromkeys(_LOGGED, next(scores)), {}, {})

    monkeypatch.setattr("keras_spd.training.coco_score.evaluate", score)
    saved = []

    class Saved(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            best = tmp_path / "run" / "best.weights.h5"
            saved.append(best.stat().st_mtime_ns if best.is_file() else None)

    callbacks = DetectionTask.callbacks
    monkeypatch.setattr(
        DetectionTask, "callbacks", lambda self, folder: [Saved(), *callbacks(self, folder)]
    )
    recipe = one_level(drawings).model_copy(update={"evaluate_every": 2})
    train(recipe, tmp_path / "run", verbose=0)
    # The callback runs before the weights of its epoch are saved.
    first, second, third, fourth = saved
    assert first is None and second is None and third is not None and fourth == third
    last = (tmp_path / "run" / "best.weights.h5").stat().st_mtime_ns
    assert last > third


@pytest.mark.slow
def test_tiles_are_trained_on_and_whole_images_are_scored(tmp_path, drawings, monkeypatch, caplog):
    cut = {"tile": (32, 32), "tile_overlap": 0.5, "tile_min_area": 0.9, "tile_empty": 0.5}
    source = drawings.data.model_copy(update={**cut, "tile_whole": True})
    with caplog.at_level(logging.INFO):
        task = DetectionTask(drawings.model_copy(update={"data": source}))
    assert task.test_data.num_images == task.splits.train.num_images == 8
    assert task.train_data.images[-1] is task.splits.train.images[-1]  # whole images, too
    expected = task.splits.train.tiles(32, 0.5, min_area=0.9, empty=0.5, whole=True, seed=0)
    names = [image.name for image in task.train_data.images]
    assert names == [image.name for image in expected.images]
    resized = f"of 32x32, resized to 64x96, give {len(names)} tiles to train on"
    assert f"8 training images cut into tiles {resized}" in caplog.text

    scored = []

    def score(model, data, image_size, **options):
        scored.append((data.num_images, image_size, options["tile"], options["overlap"]))
        return COCOScores(dict.fromkeys(_LOGGED, 0.5), {}, {})

    for module in ("detection", "coco_score"):
        monkeypatch.setattr(f"keras_spd.training.{module}.evaluate", score)
    losses = {"loss": 1.0, "box_loss": 0.1, "objectness_loss": 0.2, "class_loss": 0.3}
    monkeypatch.setattr(keras.Model, "evaluate", lambda model, batches, **_: dict(losses))
    model = task.build()
    task.compile(model, keras.optimizers.SGD())
    [callback] = task.callbacks(None)
    callback.set_model(model)
    callback.on_epoch_end(2, logs := {})
    task.score(model, RunFolder(tmp_path / "run"))
    assert scored == [(8, (64, 96), (32, 32), 0.5)] * 2
    assert logs["val_AP"] == 0.5 and callback.parts.num_images > 8  # losses of tiles


@pytest.mark.slow
def test_options_of_the_loss(tmp_path, drawings, caplog):
    mix = {"ciou": 0.5, "nwd": 0.5}
    fields = {"loss.iou": mix, "loss.assignment": "rfla", "loss.box_gain": 0.1}
    misfit = {"model.options": {"levels": ["P2"], "anchors": {"P2": [[300, 300]] * 3}}}
    (tmp_path / "recipe.toml").write_text(drawings.to_toml())
    recipe = load_recipe(str(tmp_path / "recipe.toml"), overrides={**fields, **misfit})
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert load_recipe(str(tmp_path / "recipe.toml")) == recipe
    task = DetectionTask(recipe)
    model = task.build()
    task.compile(model, keras.optimizers.SGD())
    assert (model.loss.iou, model.loss.assignment, model.loss.box_gain) == (mix, "rfla", 0.1)
    sides = np.sqrt(task.train_data.box_sides((64, 96)).prod(axis=1))
    assert model.loss.nwd_constant == pytest.approx(sides.mean())
    assert "anchors match only" not in caplog.text  # as the assignment needs no match
    with caplog.at_level(logging.INFO):
        log_cost(model, recipe)
    cost = count_multiply_adds(model, (64, 96)) / 1e9
    assert f"{model.count_params():,} parameters, {cost:.3f} G multiply-adds" in caplog.text

    with pytest.raises(ValueError, match="loss.iou.*giou"):
        load_recipe("short", task="detection", overrides={"loss.iou": "giou"})


@pytest.mark.slow
def test_fitted_anchors_and_what_training_warns_of(drawings, caplog):
    options = {"anchors": {level: [[300, 300]] * 3 for level in ("P3", "P4", "P5")}}
    misfit = drawings.model_copy(
        update={"model": drawings.model.model_copy(update={"options": options})}
    )
    with caplog.at_level(logging.WARNING):
        task = DetectionTask(misfit)
        task.compile(task.build(), keras.optimizers.SGD())
    assert "anchors match only 0.0 %" in caplog.text
    assert "fit_anchors=true" in caplog.text

    caplog.clear()
    task = DetectionTask(drawings.model_copy(update={"fit_anchors": True}))
    model = task.build()
    with caplog.at_level(logging.WARNING):
        task.compile(model, keras.optimizers.SGD())
    assert "anchors match" not in caplog.text
    assert max(side for pairs in model.anchors.values() for pair in pairs for side in pair) < 30


@pytest.mark.slow
def test_image_size_must_fit_the_strides(drawings):
    source = drawings.data.model_copy(update={"image_size": (300, 300)})
    task = DetectionTask(drawings.model_copy(update={"data": source}))
    with pytest.raises(ValueError, match=r"multiples of 32.* e.g. 320. Received: .*300, 300"):
        task.build()


def test_few_steps_are_warned_of(drawings, caplog):
    with caplog.at_level(logging.WARNING):
        DetectionTask(drawings)
    assert "only 8 steps" in caplog.text and "`--epochs 1000`" in caplog.text


def test_classes_must_agree(tmp_path, drawings):
    other = json.loads((tmp_path / "drawings" / "labels.json").read_text())
    other["categories"][1]["name"] = "ball"
    (tmp_path / "drawings" / "other.json").write_text(json.dumps(other))
    test_data = data.load_detection(tmp_path / "drawings" / "other.json")
    with pytest.raises(ValueError, match="same classes.*'rectangle', 'disc'.*'ball'"):
        DetectionTask(drawings, test_data=test_data)


@pytest.mark.parametrize("which", ["train", "test"])
def test_data_without_a_box_are_refused_before_training(tmp_path, drawings, which):
    content = json.loads((tmp_path / "drawings" / "labels.json").read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1  # of these neither is learned nor scored
    (tmp_path / "drawings" / "crowds.json").write_text(json.dumps(content))
    source = {which: str(tmp_path / "drawings" / "crowds.json")}
    recipe = drawings.model_copy(update={"data": drawings.data.model_copy(update=source)})
    names = {"train": "training", "test": "test"}
    message = rf"no boxes in the {names[which]} data \(8 images, such as .*0.png"
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run" / "log.csv").exists()
