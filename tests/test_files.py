"""Files are written atomically: on a full disk, the earlier file is kept."""

import itertools
import json
import os
import zipfile

import keras
import numpy as np
import pytest
from testing import full_disk

from keras_spd import files, metrics
from keras_spd.images.video import VideoWriter
from keras_spd.predict import Classification
from keras_spd.predict.result_files import ResultFiles
from keras_spd.training import run_plots
from keras_spd.training.recipe import load_recipe
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.saved_state import SaveBest, SaveState
from keras_spd.weights.keras_file import save_weights_file

FEW = 2000  # bytes


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((30,)), keras.layers.Dense(100)])
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    return model


def noise():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype="uint8")


def save_at_epoch(callback, model):
    callback.set_model(model)
    callback.on_epoch_end(0, {"accuracy": 0.5})


def write_results(folder):
    found = Classification(np.full(50, 0.1, "float32"), np.arange(50), None)
    with ResultFiles(folder, "classes") as results:
        results.add({"image": "a.png"}, found)


def write_video(path):
    with VideoWriter(path) as video:
        for _ in range(4):
            video.write(noise(), 0.0)


def forget_epochs(folder):
    folder.log.write_text("epoch,loss\n" + "".join(f"{n},{'0' * 90}\n" for n in range(60)))
    old = folder.log.read_bytes()
    with pytest.raises(OSError), full_disk(FEW):
        folder.forget_epochs(59)
    assert folder.log.read_bytes() == old
    raise OSError


CURVES = {"cat": (np.linspace(0, 1, 101), np.ones(101), np.ones(101))}
LOG = [{"epoch": float(n), "loss": 1.0 / (n + 1)} for n in range(5)]
WRITERS = {
    "a.json": lambda path, _: files.write_json(path, ["x" * FEW]),
    "a.keras": lambda path, model: save_keras(path, model),
    "a.weights.h5": lambda path, model: save_weights_file(model, path),
    "state.weights.h5": lambda path, model: save_at_epoch(SaveState(path), model),
    "best.weights.h5": lambda path, model: save_at_epoch(SaveBest(path, "accuracy"), model),
    "recipe.toml": lambda path, _: RunFolder(path.parent).start(load_recipe("demo"), {}),
    "log.csv": lambda path, _: forget_epochs(RunFolder(path.parent)),
    "training_images.png": lambda path, _: run_plots.draw_training_images(
        noise()[None].astype("float32"), None, path
    ),
    "learning_curves.png": lambda path, _: run_plots.draw_learning_curves(LOG, path),
    "precision_recall.png": lambda path, _: metrics.draw_precision_recall(CURVES, path),
    "confusion_matrix.png": lambda path, _: metrics.draw_confusion_matrix(
        np.eye(2, dtype=int), ("a", "b"), path
    ),
    "classes.json": lambda path, _: write_results(path.parent),
    "classes.csv": lambda path, _: write_results(path.parent),
    "a.mp4": lambda path, _: write_video(path),
}


def save_keras(path, model):
    with files.whole_file(path) as unfinished:
        model.save(unfinished)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk(name, model, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"good")
    limit = 300 if name == "recipe.toml" else FEW
    if name == "a.mp4":
        pytest.importorskip("av")
    with pytest.raises(OSError), full_disk(limit):
        WRITERS[name](path, model)
    if name != "log.csv":
        assert path.read_bytes() == b"good"
        WRITERS[name](path, model)
        assert path.read_bytes() != b"good"
    assert not list(tmp_path.glob(".unfinished*"))


def test_what_was_flushed_survives_a_full_disk(tmp_path):
    found = Classification(np.full(5, 0.1, "float32"), np.arange(5), None)
    with pytest.raises(OSError), full_disk(10_000), ResultFiles(tmp_path, "classes") as results:
        for index in range(1000):
            results.add({"image": f"{index}.png"}, found)
            results.flush()
    written = (tmp_path / "classes.json").read_text()
    assert written.endswith("}]}\n]\n")
    entries, rows = json.loads(written), (tmp_path / "classes.csv").read_text().splitlines()[1:]
    assert len(entries) > 10 and 5 * (len(entries) - 1) <= len(rows) <= 5 * (len(entries) + 1)


def test_a_folder_of_a_killed_process_is_no_obstacle(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_numbers", itertools.repeat(0))
    for state in ("unfinished", "old"):
        rest = tmp_path / f".{state}-{os.getpid()}-0-served"
        rest.mkdir()
        (rest / "half").touch()
    (tmp_path / "served").mkdir()
    with files.whole_folder(tmp_path / "served") as unfinished:
        (unfinished / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["served", "whole"]


def test_whole_folder(tmp_path):
    folder = tmp_path / "served"
    for name in "ab":
        with files.whole_folder(folder) as unfinished:
            (unfinished / name).touch()
    with pytest.raises(OSError), files.whole_folder(folder) as unfinished:
        (unfinished / "c").touch()
        raise OSError
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_ctrl_c_between_two_renames_keeps_a_folder(tmp_path, monkeypatch):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a").touch()
    replace, calls = os.replace, []

    def interrupt(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt), files.whole_folder(folder):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["served", "a"]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "large").mkdir()
    for name in ("file", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "large" / name)
    for _ in range(2):
        with files.whole_file(tmp_path / "file") as unfinished:
            unfinished.touch()
        with files.whole_folder(tmp_path / "folder") as unfinished:
            (unfinished / "a").touch()
    assert (tmp_path / "file").is_symlink() and (tmp_path / "folder").is_symlink()
    found = {path.name for path in (tmp_path / "large").rglob("*")}
    assert found == {"file", "folder", "a"} and len(list(tmp_path.iterdir())) == 3


def test_a_name_as_long_as_a_file_system_allows(tmp_path):
    path = tmp_path / ("\u77ed" * 83 + ".png")  # 253 bytes
    with files.whole_file(path) as unfinished:
        unfinished.write_text("a")
        assert unfinished.suffix == ".png"
    assert path.read_text() == "a"


@pytest.mark.parametrize("check", [files.check_zip, files.check_h5])
def test_a_web_page_instead_of_a_file(check, tmp_path):
    (tmp_path / "model").write_text("<!DOCTYPE html>\n<title>Not Found</title>")
    with pytest.raises(ValueError, match="model is not .*text that starts with '<!DOCTYPE html>"):
        check(tmp_path / "model")


def test_a_damaged_name_in_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("k\u00f6nig", "content")
    content = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(content.replace("\u00f6".encode(), b"\xff\xff"))
    with pytest.raises(ValueError, match="model.keras is not a readable file: .*damaged"):
        files.check_zip(tmp_path / "model.keras")
