"""The fit path: it learns, resumes exactly and explains errors."""

import concurrent.futures
import contextlib
import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import run_training
from drawings import write_drawings
from testing import full_disk
from tiny import tiny_classifier

from keras_spd import data
from keras_spd.training import fit as fit_module
from keras_spd.training import load_recipe, saved_state, train
from keras_spd.training.errors import explained
from keras_spd.training.given import name_data
from keras_spd.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("thin_networks")
# Keras' augmentation runs eagerly, which takes longer than the steps of a small network.
STILL = {
    "augmentation.crop_padding": 0,
    "augmentation.horizontal_flip": False,
    "augmentation.vertical_flip": False,
}
OVERRIDES = {"epochs": 4, "batch_size": 16, "optimizer.learning_rate": 0.005, **STILL}


@pytest.fixture
def cells():
    """A few small cells: 160 to train on, 40 to test on, of 16x16 pixels."""
    images, labels = data.load_blood_cells("train").batches(817)[0]
    images = images[:, ::2, ::2]
    order = np.random.default_rng(0).permutation(len(images))
    train_data, test_data = (
        data.from_arrays(images[part], labels[part]) for part in (order[:160], order[160:200])
    )
    return {"train_data": train_data, "test_data": test_data, "verbose": 0}


@pytest.fixture
def recipe():
    return load_recipe("demo", overrides=OVERRIDES)


def log(folder):
    return RunFolder(folder).read_log()


@pytest.mark.slow
def test_run_folder_and_learning(tmp_path, cells, recipe, pictures, graphs):
    model = train(recipe, tmp_path, **cells)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".lock",
        "recipe.toml",
        "environment.json",
        "log.csv",
        "training_images.png",
        "learning_curves.png",
        "tensorboard",
        "state.weights.h5",
        "best.weights.h5",
        "model.keras",
        "results.json",
    }
    passed = name_data(recipe, train=cells["train_data"], test=cells["test_data"])
    assert load_recipe(tmp_path / "recipe.toml") == passed
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["processor"] and environment["versions"]["keras"] == keras.__version__
    assert environment["images"] == {"train": 160, "test": 40}
    rows = log(tmp_path)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    results = json.loads((tmp_path / "results.json").read_text())
    best = max(row["val_accuracy"] for row in rows)
    assert results["test_accuracy"] == pytest.approx(best, abs=1e-6)
    assert (results["chosen_on"], results["evaluations"]) == ("test", 4)
    assert 0.01 < results["training_seconds"] < 1000

    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.info == model.info
    assert loaded.info.class_names == ("0", "1", "2")
    assert loaded.info.statistics is not None
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    with pytest.raises(ValueError, match=r"already holds a run. Resume it"):
        train(recipe, tmp_path, **cells)


@pytest.mark.slow
def test_killed_at_any_moment_a_run_resumes_as_if_unbroken(tmp_path):
    """Random augmentation, averaged weights, a schedule, held-out images."""
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    settings = ["epochs=8", "optimizer.average=0.9", "optimizer.learning_rate=0.0005"]
    settings += ["data.validation=0.25", "patience=8"]
    run_training.run("classifier", unbroken, settings=settings)
    command = [sys.executable, run_training.__file__, "classifier", killed, "--set", *settings]
    process = subprocess.Popen(command)
    delay = np.random.default_rng().uniform(0, 0.2)
    while process.poll() is None:  # until it trains, and a moment more
        if (killed / "state.weights.h5").is_file():
            time.sleep(delay)
            break
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() != 0, f"the run ended before it was killed, {delay:.3f} s after its state"
    assert not (killed / "results.json").exists()
    run_training.run("classifier", killed, settings=settings, resume=True)
    assert [row["epoch"] for row in log(killed)] == list(range(8))
    for row, expected in zip(log(killed), log(unbroken), strict=True):
        assert row == pytest.approx(expected, rel=2e-3, abs=1e-4), f"{delay:.3f} s after its state"
    ours, theirs = (json.loads((f / "results.json").read_text()) for f in (killed, unbroken))
    assert ours["test_accuracy"] == pytest.approx(theirs["test_accuracy"], abs=1e-6)
    assert ours["chosen_on"] == "validation"
    assert ours["best_epoch"]["epoch"] == theirs["best_epoch"]["epoch"]


@pytest.mark.slow
def test_the_average_of_the_weights_is_kept(tmp_path, cells, recipe):
    """`best.weights.h5` holds the moving average that the optimizer's steps give.

    Its decay is 0.1 in a run of two steps: the first one counts 1 %.
    """
    optimizer = recipe.optimizer.model_copy(update={"average": 0.5})
    recipe = recipe.model_copy(update={"optimizer": optimizer, "epochs": 1, "batch_size": 80})
    weights = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append([np.array(w) for w in self.model.trainable_weights])

    model = train(recipe, tmp_path, **cells, callbacks=[Watch()])
    assert len(weights) == 2
    for ours, first, second in zip(model.trainable_weights, *weights, strict=True):
        np.testing.assert_allclose(ours, 0.1 * first + 0.9 * second, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_modern_recipe_learns(tmp_path, cells):
    few = {"epochs": 8, "batch_size": 40, "optimizer.average": 0.5, "schedule.warmup_epochs": 1}
    recipe = load_recipe("modern", overrides=few | {"optimizer.learning_rate": 0.3})
    train(recipe, tmp_path, model=tiny_classifier(), **cells)
    losses = [row["val_loss"] for row in log(tmp_path)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
def test_the_modern_recipe_of_detectors_runs(tmp_path):
    source = str(write_drawings(tmp_path / "drawings", 8))
    few = {"data.train": source, "data.test": source, "data.image_size": [64, 64], "epochs": 1}
    few |= {"model.name": "yolov5_spd_n", "batch_size": 8}
    few |= {"model.options": {"levels": ["P3"]}}
    model = train(load_recipe("modern", task="detection", overrides=few), tmp_path, verbose=0)
    [row] = log(tmp_path)
    assert 0 < row["val_loss"] < 2
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.slow
def test_resuming_a_finished_run_changes_nothing(tmp_path, cells, recipe):
    recipe = recipe.model_copy(update={"epochs": 1, "batch_size": 80})
    first = train(recipe, tmp_path, **cells)
    rows = log(tmp_path)
    again = train(None, tmp_path, resume=True, **cells)
    assert log(tmp_path) == rows
    for ours, theirs in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_broken_state_is_named(tmp_path, cells, recipe):
    folder = RunFolder(tmp_path)
    folder.start(recipe, {"train": 160, "test": 40})
    folder.state.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"Cannot resume from .*state.weights.h5"):
        train(None, tmp_path, resume=True, **cells)


def test_of_equally_good_epochs_the_last_is_the_best(tmp_path, cells, recipe):
    del cells["verbose"]
    task, folder = fit_module.ClassificationTask(recipe, **cells), RunFolder(tmp_path)
    callbacks = fit_module.make_callbacks(task, None, folder, fit_module.distribute(), 1)
    [checkpoint] = [c for c in callbacks if isinstance(c, saved_state.SaveBest)]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
    checkpoint.set_model(model)
    for epoch, accuracy in enumerate((0.5, 0.5, 0.4, None)):  # the last without an evaluation
        model.get_layer("dense").bias.assign([epoch])
        logs = {} if accuracy is None else {"val_accuracy": accuracy}
        checkpoint.on_epoch_end(epoch, logs)
    model.load_weights(folder.best)
    assert float(model.get_layer("dense").bias[0]) == 1


def test_few_steps_are_warned_of(cells, recipe, caplog):
    del cells["verbose"]
    with caplog.at_level(logging.WARNING):
        fit_module.ClassificationTask(recipe, **cells)
    assert "4 epochs of 160 images in batches of 16: only 40 steps" in caplog.text
    assert "raise `--epochs`." in caplog.text
    caplog.clear()
    large = recipe.model_copy(update={"batch_size": 64})
    fit_module.ClassificationTask(large, **cells)
    assert "8 steps" in caplog.text and "`--recipe few_images`" in caplog.text
    caplog.clear()
    fit_module.ClassificationTask(recipe.model_copy(update={"epochs": 20}), **cells)
    assert not caplog.text


@pytest.mark.slow
def test_nan_loss_says_what_to_do(tmp_path, cells, recipe):
    optimizer = recipe.optimizer.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(ValueError, match=r"The loss became NaN or infinite in epoch \d. Lower"):
        train(recipe.model_copy(update={"optimizer": optimizer}), tmp_path, **cells)


def test_a_new_run_forgets_the_start_of_one_that_saved_no_epoch(
    tmp_path, cells, recipe, monkeypatch
):
    folder = RunFolder(tmp_path)
    folder.start_model.write_bytes(b"of a run from trained weights")
    monkeypatch.setattr(fit_module, "_train", lambda *args: None)
    monkeypatch.setattr(fit_module, "_finish", lambda *args: None)
    train(recipe, tmp_path, **cells)
    assert folder.recipe.is_file() and not folder.start_model.exists()


def test_nothing_to_resume(tmp_path):
    with pytest.raises(ValueError, match="no run to resume"):
        train(None, tmp_path / "none", resume=True)


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Cannot write to the run folder"):
        RunFolder(tmp_path / "file" / "run")


def test_workers_share_a_folder(tmp_path):
    """Workers wait for each other, then create it at the same time."""
    with concurrent.futures.ThreadPoolExecutor(4) as workers:
        folders = list(workers.map(RunFolder, [tmp_path / "run"] * 400))
    assert len(folders) == 400
    assert not list((tmp_path / "run").iterdir())


def test_bad_model_option(tmp_path, cells):
    recipe = load_recipe("demo", overrides={"model.options": {"downsample": "spd"}})
    with pytest.raises(ValueError, match=r"`model.options` of the recipe.*downsample"):
        train(recipe, tmp_path, **cells)


def test_no_trace_of_the_precision_is_left(tmp_path, cells, recipe):
    pathlib.Path(tmp_path / "x").mkdir()
    options = {"model.options": {"downsampling": "x"}, "precision": "mixed_bfloat16"}
    with pytest.raises(ValueError, match="`downsampling` must be"):
        train(load_recipe("demo", overrides=options), tmp_path / "x", **cells)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_epoch_to_resume_from(tmp_path, cells, recipe, monkeypatch):
    recipe = recipe.model_copy(update={"batch_size": 80, "epochs": 2})
    save = saved_state.save_weights_file

    def save_state(model, path, **attributes):
        full = path.name == "state.weights.h5" and path.is_file()
        with full_disk(10_000) if full else contextlib.nullcontext():
            save(model, path, **attributes)

    monkeypatch.setattr(saved_state, "save_weights_file", save_state)
    message = r"is full.*Free some space.*Saved so far: . epochs?\. Resume with: keras-spd train -"
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path, **cells)
    assert not list(tmp_path.glob(".unfinished*"))
    monkeypatch.undo()
    train(None, tmp_path, resume=True, **cells)
    assert [row["epoch"] for row in log(tmp_path)] == [0, 1]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"),
    ],
)
def test_a_batch_too_large_for_the_memory(tmp_path, error):
    message = "A batch of 64 images does not fit.*Lower `batch_size`.*Nothing is saved yet"
    with pytest.raises(ValueError, match=message), explained(RunFolder(tmp_path), 64):
        raise error
    with pytest.raises(RuntimeError, match="another"), explained(RunFolder(tmp_path), 64):
        raise RuntimeError("another")
    full = type("ResourceExhaustedError", (Exception,), {})("events.out: No space left on device")
    with (
        pytest.raises(ValueError, match="is full.*Free some space"),
        explained(RunFolder(tmp_path), 64),
    ):
        raise full
    files = type("ResourceExhaustedError", (Exception,), {})("events.out: Too many open files")
    with pytest.raises(type(files)), explained(RunFolder(tmp_path), 64):
        raise files


def test_a_broken_image_in_a_thread_of_tensorflow(tmp_path):
    text = "{{function_node x}} ImageError: a.jpg: the image is broken.\nTraceback ..."
    wrapped = type("InvalidArgumentError", (Exception,), {})(text)
    message = r"^a\.jpg: the image is broken\. Nothing is saved yet"
    with pytest.raises(ValueError, match=message), explained(RunFolder(tmp_path), 4):
        raise wrapped
