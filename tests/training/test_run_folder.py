"""A run folder: damaged files are named, saved state is found, and only one training writes."""

import json
import subprocess
import sys
import warnings

import h5py
import keras
import numpy as np
import pytest

from keras_spd import data
from keras_spd.training import load_recipe, train
from keras_spd.training.best_epoch import describe_best, read_threshold
from keras_spd.training.epoch_log import LogEpochs
from keras_spd.training.errors import describe_saved_state
from keras_spd.training.fields import PASSED
from keras_spd.training.given import name_data
from keras_spd.training.lock import locked
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.run_recipe import find_recipe
from keras_spd.training.saved_state import (
    SaveBest,
    SaveState,
    restore_state,
    saved_epochs,
    saved_seconds,
)
from keras_spd.training.splits import Splits, load_splits
from keras_spd.weights.keras_file import save_weights_file

IMAGES = {"train": 32, "test": 32}
LINES = "epoch,loss,val_accuracy\r\n0,1.5,0.25\r\n1,1.25,0.5\r\n"


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    cells = data.from_arrays(rng.uniform(0, 255, (32, 16, 16, 3)), np.arange(32) % 3)
    return {"train_data": cells, "test_data": cells, "verbose": 0}


@pytest.fixture
def recipe():
    return load_recipe("demo", overrides={"epochs": 2, "batch_size": 16})


def float16_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model.compile(optimizer=optimizer, loss="mse")
    return model


@pytest.fixture
def model():
    return float16_model()


def stopped_run(path, model, recipe, epochs=2):
    """Writes the files of a run that was stopped after some epochs."""
    folder = RunFolder(path)
    folder.start(recipe, IMAGES)
    save = SaveState(folder.state)
    save.set_model(model)
    save.on_epoch_end(epochs - 1)
    folder.log.write_text(LINES, newline="")
    return folder


@pytest.mark.slow
def test_the_epoch_survives_steps_that_overflow(tmp_path, model, recipe):
    """Under float16 they do not count as steps of the optimizer."""
    model.fit(np.full((4, 2), np.inf), np.zeros((4, 1)), batch_size=1, verbose=0)
    assert int(model.optimizer.inner_optimizer.iterations) == 0
    folder = stopped_run(tmp_path, model, recipe, epochs=2)
    assert restore_state(float16_model(), folder.state) == 2


@pytest.mark.slow
def test_training_time_adds_up_over_resumes(tmp_path, model, monkeypatch):
    now = 100.0
    monkeypatch.setattr("keras_spd.training.saved_state.time.perf_counter", lambda: now)
    state = tmp_path / "state.weights.h5"
    for start in (100.0, 5000.0):  # a run of two epochs, and two more after a break
        now = start
        save = SaveState(state)
        save.set_model(model)
        for epoch in (0, 1):
            now += 10
            save.on_epoch_end(epoch)
    assert saved_seconds(state) == 40
    save_weights_file(model, state)  # of an earlier version
    assert np.isnan(saved_seconds(state))


def test_short_epochs_are_not_all_saved(tmp_path, model, monkeypatch):
    now = 100.0
    monkeypatch.setattr("keras_spd.training.saved_state.time.perf_counter", lambda: now)
    state = tmp_path / "state.weights.h5"
    save = SaveState(state, last_epoch=6)
    save.set_model(model)
    saved = []
    for epoch in range(6):
        now += 4
        save.on_epoch_end(epoch)
        saved.append(saved_epochs(state))
    assert saved == [1, 1, 1, 4, 4, 6]
    assert saved_seconds(state) == 24
    model.stop_training = True  # by a callback: the epoch is the last
    save.on_epoch_end(6)
    assert saved_epochs(state) == 7


def test_the_log_keeps_its_line_endings(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log.write_bytes(LINES.encode() + b"2,1.0")  # killed in the middle of a line
    folder.forget_epochs(2)
    assert folder.log.read_bytes() == LINES.encode()
    folder.forget_epochs(1)
    assert folder.log.read_bytes() == LINES[: LINES.index("1,1.25")].encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("environment.json", b"", "environment.json is damaged .*delete it, and resume"),
        ("environment.json", b"[1]", "environment.json is damaged"),
        ("environment.json", b'{"resumed": 3}', "environment.json is damaged"),
        ("environment.json", b"\xff\xfe", "environment.json is damaged"),
        ("recipe.toml", b"", "recipe.toml is empty.*restore it, or start a new run"),
        ("recipe.toml", b"epochs = ", "Cannot read the recipe .*recipe.toml.*restore it"),
        ("recipe.toml", b"\xff", "Cannot read the recipe .*recipe.toml.*restore it"),
        ("recipe.toml", b"data = 3", "(?s)recipe.toml:.*data.*restore it"),
        ("state.weights.h5", b"half", "Cannot resume from .*state.weights.h5: it is damaged"),
    ],
)
def test_a_damaged_file_is_named(
    tmp_path, cells, model, recipe, name, content, message, thin_networks
):
    stopped_run(tmp_path, model, recipe)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        train(None, tmp_path, resume=True, **cells)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nonsense",
        LINES.replace("1,1.25", "7,1.25"),
        LINES.replace("1.25", "x"),
        LINES[:40],
        "epoch,loss,val_accuracy\n0,1.5\n1,2,3,4\n",
    ],
)
def test_a_damaged_log_is_named(tmp_path, content):
    folder = RunFolder(tmp_path)
    folder.log.write_text(content, newline="")
    with pytest.raises(ValueError, match=r"log.csv is damaged: .*delete it to resume without"):
        folder.forget_epochs(2)
    assert folder.log.read_bytes() == content.encode()


def test_a_run_resumes_twice_after_its_log_was_deleted(tmp_path):
    folder = RunFolder(tmp_path)
    for epoch in range(5, 9):
        LogEpochs(folder.log).on_epoch_end(epoch, {"loss": 1.0})
    folder.forget_epochs(8)
    assert [row["epoch"] for row in folder.read_log()] == [5, 6, 7]
    with pytest.raises(ValueError, match="must hold the epochs from 5 to 9"):
        folder.forget_epochs(10)


def test_damaged_best_weights_are_named_and_replaced(tmp_path, model, recipe, caplog):
    folder = stopped_run(tmp_path, model, recipe)
    assert not folder.holds_best()
    folder.best.write_bytes(b"half")
    assert not folder.holds_best()
    assert "best.weights.h5 is damaged" in caplog.text
    with pytest.raises(ValueError, match=r"best.weights.h5, the weights of .*Raise `epochs` in"):
        folder.load_best(model)
    model.save_weights(folder.best)
    assert folder.holds_best()


def test_best_weights_of_an_epoch_that_is_trained_again_are_dropped(tmp_path, model, recipe):
    """After a crash between two saves of the state."""
    folder = stopped_run(tmp_path, model, recipe, epochs=1)
    for epochs, kept in ((1, True), (2, False)):
        save_weights_file(model, folder.best, keras_spd_epochs=epochs)
        folder.forget_epochs(1)
        assert folder.best.is_file() == kept


def test_a_state_without_its_epoch_is_refused(tmp_path, model, recipe):
    folder = stopped_run(tmp_path, model, recipe)
    with h5py.File(folder.state, "a") as file:
        file.attrs.clear()
    with pytest.raises(ValueError, match="not written by this version"):
        restore_state(model, folder.state)


def test_another_recipe_than_the_runs_is_refused(tmp_path, cells, model, recipe):
    stopped_run(tmp_path, model, recipe)
    other = load_recipe("demo", overrides={"epochs": 9, "batch_size": 16, "optimizer.momentum": 0})
    message = r"differs: epochs = 2 \(given: 9\), optimizer.momentum = 0.9 \(given: 0.0\). Pass"
    with pytest.raises(ValueError, match=message):
        train(other, tmp_path, resume=True, **cells)


def test_the_same_epochs_can_be_given_again(tmp_path, model, recipe):
    """A script that trains a run for longer may be interrupted and started again."""
    folder = stopped_run(tmp_path, model, recipe)
    for _ in range(2):
        longer = find_recipe(recipe, folder, resume=True, epochs=5)
        assert longer.epochs == 5
        folder.start(longer, IMAGES, resumed=True)


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_diverges_does_not_replace_the_state(tmp_path, model, loss):
    state, best = SaveState(tmp_path / "state.h5", 3), SaveBest(tmp_path / "best.h5", "score")
    for callback in (state, best):
        callback.set_model(model)
        callback.on_epoch_end(0, {"loss": 1.0, "score": 0.5})
        callback.on_epoch_end(2, {"loss": loss, "score": 0.6})
        assert saved_epochs(callback.path) == 1


def test_an_address_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="local or mounted .* Received: 'gs://bucket/run'. Mount"):
        RunFolder("gs://bucket/run")
    assert not list(tmp_path.iterdir())


HOLD = """
import pathlib, sys, time
from keras_spd.training.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_trainings_in_one_folder(tmp_path, cells, recipe):
    folder = RunFolder(tmp_path)
    command = [sys.executable, "-c", HOLD, folder.lock]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        message = f"Another training is writing to .*process {process.pid} on"
        with pytest.raises(ValueError, match=message):
            train(recipe, tmp_path, **cells)
        assert {path.name for path in tmp_path.iterdir()} == {".lock"}
    finally:
        process.kill()
        process.communicate()
    with locked(folder.lock):  # freed by the system
        pass


def test_memory_that_ends_before_the_first_batch(tmp_path, cells, recipe, monkeypatch):
    def build(*_):
        raise MemoryError

    monkeypatch.setattr("keras_spd.training.fit.build", build)
    with pytest.raises(ValueError, match=r"A batch of 16 images does not fit .*or use a smaller"):
        train(recipe, tmp_path, **cells)


def test_values_that_were_not_computed_are_blank(tmp_path):
    """Scores are rare; the columns of a resumed run are those of an uninterrupted one."""
    folder = RunFolder(tmp_path)
    log = LogEpochs(folder.log)
    log.on_epoch_end(0, {"loss": 2.5})
    log.on_epoch_end(1, {"loss": 1.5, "val_AP": 0.25})
    log.on_epoch_end(2, {"loss": 1.25})
    folder.forget_epochs(2)
    LogEpochs(folder.log).on_epoch_end(2, {"loss": 1.0})
    assert folder.log.read_text().split() == ["epoch,loss,val_AP", "0,2.5,", "1,1.5,0.25", "2,1.0,"]
    rows = folder.read_log()
    assert [row["loss"] for row in rows] == [2.5, 1.5, 1.0] and rows[1]["val_AP"] == 0.25
    assert np.isnan([rows[0]["val_AP"], rows[2]["val_AP"]]).all()


def test_what_is_no_number_is_left_out_of_the_log(tmp_path, caplog):
    log = LogEpochs(tmp_path / "log.csv")
    for epoch in range(2):
        rate = keras.ops.convert_to_tensor(0.5)
        log.on_epoch_end(epoch, {"loss": 1.0, "rate": rate, "note": "a", "many": np.zeros(3)})
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows == ["epoch,loss,rate", "0,1.0,0.5", "1,1.0,0.5"]
    assert caplog.text.count("only takes numbers: 'note', which a callback added, is skipped") == 1
    assert caplog.text.count("'many', which a callback added, is skipped") == 1


def test_data_and_code_that_were_passed_in_python_are_named(tmp_path, cells, recipe, caplog):
    folder = RunFolder(tmp_path)
    named = name_data(recipe, train=cells["train_data"], validation=None, test=cells["test_data"])
    folder.start(named, IMAGES, transform=["mine.transform"])
    stored = folder.read_recipe()
    assert (stored.data.train, stored.data.validation, stored.data.test) == (PASSED, None, PASSED)
    with pytest.raises(ValueError, match="Resume or repeat it there.*`train_data`"):
        load_splits(data.ClassificationData, stored, Splits(None, None, None), None)
    folder.start(named, IMAGES, resumed=True)
    assert "was started with `transform=` mine.transform in Python" in caplog.text
    with pytest.raises(TypeError, match="`recipe` must be a `Recipe`.*Received: 'short'"):
        train("short", tmp_path / "other")


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError("No locks available")

    monkeypatch.setattr("keras_spd.training.lock.fcntl.flock", flock)
    with locked(tmp_path / ".lock"):
        assert f"{tmp_path} cannot be locked (No locks available)" in caplog.text


def test_results_are_json_where_the_log_has_gaps(tmp_path, model, recipe):
    """A metric that is not logged in every epoch is NaN in the log, which JSON does not have."""
    folder = stopped_run(tmp_path, model, recipe)
    folder.state.rename(folder.best)
    folder.log.write_text("epoch,loss,lr,val_AP\r\n0,1.5,,0.25\r\n1,1.25,,\r\n", newline="")
    described = describe_best(folder, "val_AP", "test")
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described["best_epoch"] == described["last_epoch"] == {"epoch": 1, "loss": 1.25}


def test_the_command_with_the_best_threshold_cuts_the_same_tiles(tmp_path):
    folder = RunFolder(tmp_path)
    folder.scores.write_text('{"best_f1": {"F1": 0.5, "confidence": 0.25}}')
    for overlap, options in ((0.2, ""), (0.4, " --overlap 0.4")):
        tiles = {"data.tile": (640, 640), "data.tile_overlap": overlap, "data.train": "a"}
        recipe = load_recipe("short", task="detection", overrides={"data.test": "b", **tiles})
        folder.recipe.write_text(recipe.to_toml())
        assert read_threshold(folder).endswith(f"--confidence 0.250 --tile 640x640{options}`.")


def test_what_a_stopped_run_has_saved(tmp_path, model, recipe):
    assert "no epoch was completed" in describe_saved_state(RunFolder(tmp_path))
    folder = stopped_run(tmp_path, model, recipe)
    resume = f"Saved so far: 2 epochs. Resume with: keras-spd train --resume --run {tmp_path}"
    assert describe_saved_state(folder) == resume


def test_an_error_in_a_folder_that_cannot_be_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no such data"), locked(RunFolder(".").lock):
        raise ValueError("no such data")


def test_the_state_of_another_optimizer_is_refused(tmp_path, model):
    save = SaveState(tmp_path / "state.weights.h5")
    save.set_model(model)
    save.on_epoch_end(0)
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.compile(keras.optimizers.Adam(0.1), "mse")
    with warnings.catch_warnings(), pytest.raises(ValueError, match="Cannot resume from"):
        warnings.simplefilter("ignore")  # as on the command line
        restore_state(other, save.path)
