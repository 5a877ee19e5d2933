"""The best epoch is chosen on validation data, and the test data is scored once."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from drawings import write_drawings
from PIL import Image
from tiny import tiny_classifier

from keras_spd import data
from keras_spd.training import load_recipe, train
from keras_spd.training.best_epoch import read_scores, read_threshold, without_improvement
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.detection import DetectionTask
from keras_spd.training.distribution import Distribution
from keras_spd.training.run_folder import RunFolder

OVERRIDES = {"batch_size": 8, "optimizer.learning_rate": 0.005, "data.validation": 0.25}


@pytest.fixture
def cells():
    """48 cells to train on, 11 to test on."""
    images, labels = data.load_blood_cells("train").batches(59)[0]
    images = images[:, ::2, ::2]
    parts = slice(48), slice(48, 59)
    return [data.from_arrays(images[part], labels[part], ("a", "b", "c")) for part in parts]


@pytest.fixture
def fit(cells):
    """Returns a function that trains a small classifier."""

    def fit(folder, *, resume=False, callbacks=(), **overrides):
        recipe = load_recipe("demo", overrides=OVERRIDES | overrides)
        options = {"train_data": cells[0], "test_data": cells[1], "verbose": 0}
        options |= {"model": tiny_classifier(), "resume": resume, "callbacks": callbacks}
        return train(recipe, folder, **options)

    return fit


def record(folder):
    return json.loads((folder / "results.json").read_text())


def accuracy(task, dataset, model):
    images, labels = dataset.batches(100, preprocess=task._preprocess)[0]
    return (model.predict(images, verbose=0).argmax(axis=1) == labels).mean()


@pytest.mark.slow
def test_the_best_epoch_is_chosen_on_held_out_images(tmp_path, cells, fit, monkeypatch):
    scored = []
    score = ClassificationTask.score
    monkeypatch.setattr(
        ClassificationTask, "score", lambda task, *args: scored.append(task) or score(task, *args)
    )
    model = fit(tmp_path, epochs=3)
    [task] = scored  # once, at the end
    assert (task.train_data.num_images, task.splits.validation.num_images) == (36, 12)
    assert task.test_data is cells[1]
    rows, results = RunFolder(tmp_path).read_log(), record(tmp_path)
    best = max(rows, key=lambda row: (row["val_accuracy"], row["epoch"]))
    assert results["best_epoch"] == best and results["last_epoch"] == rows[-1]
    assert (results["chosen_on"], results["chosen_by"]) == ("validation", "val_accuracy")
    assert (results["evaluations"], results["test_images"]) == (3, 11)
    assert best["val_accuracy"] == pytest.approx(accuracy(task, task.splits.validation, model))
    assert results["test_accuracy"] == pytest.approx(accuracy(task, cells[1], model))


@pytest.mark.slow
def test_a_run_without_improvement_stops_early_also_when_it_is_resumed(
    tmp_path, fit, interrupt_after, caplog
):
    overrides = {"epochs": 9, "optimizer.learning_rate": 1e-12, "patience": 3, "evaluate_every": 2}
    interrupt_after(5)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, **overrides)
    fit(tmp_path, **overrides, resume=True)
    rows = RunFolder(tmp_path).read_log()
    assert [row["epoch"] for row in rows] == list(range(8))  # evaluations 2, 4, 6 and 8
    assert record(tmp_path)["evaluations"] == 4
    assert "of 8, the best on the validation data" in read_scores(RunFolder(tmp_path))
    fit(tmp_path, **overrides, resume=True)
    assert "stopped early. To continue, raise `patience` in" in caplog.text
    assert RunFolder(tmp_path).read_log() == rows


@pytest.mark.slow
def test_callbacks_of_the_user_and_a_run_that_is_lengthened(tmp_path, cells, fit, caplog):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["seen"] = logs["val_accuracy"]
            self.model.stop_training = epoch == 1

    fit(tmp_path, epochs=4, callbacks=[Stop()])
    rows = RunFolder(tmp_path).read_log()
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all(row["seen"] == row["val_accuracy"] for row in rows)
    options = {"train_data": cells[0], "test_data": cells[1], "verbose": 0, "resume": True}
    train(None, tmp_path, epochs=3, **options)
    assert load_recipe(tmp_path / "recipe.toml").epochs == 3
    assert [row["epoch"] for row in RunFolder(tmp_path).read_log()] == [0, 1, 2]
    assert record(tmp_path)["last_epoch"]["epoch"] == 2
    with pytest.raises(ValueError, match=r"at least the number of epochs that are done, 3. Recei"):
        train(None, tmp_path, epochs=2, **options)
    with pytest.raises(ValueError, match=r"started with data.validation=0.25.*without `valid"):
        train(None, tmp_path, epochs=5, validation_data=cells[1], **options)
    (tmp_path / ".unfinished-1-2-state.weights.h5").touch()  # of a killed process
    train(None, tmp_path, model=tiny_classifier(), **options)
    assert "`model` is not used" in caplog.text
    assert not list(tmp_path.glob(".unfinished-*"))


def test_bad_epochs_and_callbacks(tmp_path, fit):
    with pytest.raises(ValueError, match=r"pass `resume=True`.*Received: epochs=3, resume=False"):
        train(load_recipe("demo"), tmp_path, epochs=3)
    with pytest.raises(TypeError, match=r"`callbacks` must be a list of .*Received: <function"):
        fit(tmp_path, callbacks=[record])


def test_evaluations_without_improvement():
    nan = float("nan")
    for scores, expected in (
        ([], 0),
        ([nan], 0),
        ([0.5], 0),
        ([0.5, 0.6], 0),
        ([0.5, nan, 0.5, nan, 0.4], 2),
        ([0.4, 0.5, 0.45, 0.6, 0.6], 1),
    ):
        log = [{"val_AP": score} for score in scores]
        assert without_improvement(log, "val_AP") == expected, scores
    assert without_improvement([{"loss": 1.0}], "val_AP") == 0


def test_when_evaluations_begin_to_count():
    def count(scores, since=0):
        log = [{"epoch": epoch, "val_AP": score} for epoch, score in enumerate(scores)]
        return without_improvement(log, "val_AP", since)

    assert count([0.0, 0.0, 0.0]) == 0  # it has not learned anything yet
    assert count([0.0, 0.0, 0.2, 0.1]) == 1
    assert count([0.2, 0.0, 0.0]) == 2
    assert count([0.5, 0.4, 0.3, 0.35]) == 3
    assert count([0.5, 0.4, 0.3, 0.35], since=2) == 0  # the size of the images has changed
    assert count([0.5, 0.4, 0.3, 0.35, 0.3], since=2) == 1


@pytest.mark.slow
def test_small_images_and_frozen_layers_do_not_stop_a_run(tmp_path, fit):
    still = {"epochs": 7, "optimizer.learning_rate": 1e-12, "patience": 1, "freeze.epochs": 2}
    sizes = {"initial_scale": 0.5, "delay_fraction": 0.55, "finetune_fraction": 0.3}
    sizes = {f"progressive_resizing.{name}": value for name, value in sizes.items()}
    frozen = {"freeze.layers": ["stem"], "progressive_resizing.size_increment": 8}
    fit(tmp_path, **still, **sizes, **frozen)
    assert [row["epoch"] for row in RunFolder(tmp_path).read_log()] == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_run_resumes_with_the_images_it_was_started_with(tmp_path, cells, fit):
    fit(tmp_path, epochs=1)
    fewer = cells[0].hold_out(0.1)[0]
    options = {"test_data": cells[1], "verbose": 0, "resume": True, "epochs": 2}
    with pytest.raises(ValueError, match=r"The data has changed since .*'train': 36.* another run"):
        train(None, tmp_path, train_data=fewer, **options)
    RunFolder(tmp_path).state.unlink()
    with pytest.raises(ValueError, match=r"without its state.weights.h5.*--weights .*model.keras"):
        train(None, tmp_path, train_data=cells[0], **options)
    assert len(RunFolder(tmp_path).read_log()) == 1


def test_training_images_that_are_tested_on_are_warned_of(tmp_path, cells, caplog):
    for name in ("train", "test"):
        for label in ("a", "b"):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(np.full((16, 16, 3), number, "uint8")).save(
                    folder / f"{number}.png"
                )
    for test, words in (("test", ""), ("train", "have images in common")):
        overrides = {"data.name": None, "data.train": str(tmp_path / "train")}
        overrides |= {"data.test": str(tmp_path / test), "batch_size": 2}
        ClassificationTask(load_recipe("short", overrides=overrides))
        assert words in caplog.text and bool(words) == ("in common" in caplog.text)


@pytest.mark.parametrize(
    ("chosen_on", "evaluations", "words"),
    [
        ("validation", 5, " with the weights of epoch 4 of 5, the best on the validation data"),
        (
            "test",
            5,
            " of epoch 4 of 5, the best on the same test data, so the score is optimistic",
        ),
        ("test", 1, "Test accuracy 0.7500"),  # nothing was chosen
    ],
)
def test_the_summary_says_what_was_chosen_on_what(tmp_path, chosen_on, evaluations, words):
    folder = RunFolder(tmp_path)
    best, last = {"epoch": 3.0}, {"epoch": 4.0}
    results = {"test_accuracy": 0.75, "chosen_on": chosen_on, "evaluations": evaluations}
    folder.results.write_text(json.dumps(results | {"best_epoch": best, "last_epoch": last}))
    assert words in read_scores(folder)
    assert (evaluations == 1) == read_scores(folder).endswith("0.7500")
    folder.results.write_text(json.dumps(results | {"best_epoch": None, "last_epoch": None}))
    assert ("the best epoch" in read_scores(folder)) == (evaluations > 1)
    folder.results.write_text(json.dumps({"test_accuracy": 0.75}))  # of an earlier version
    assert read_scores(folder) == "Test accuracy 0.7500"


def test_the_summary_names_the_threshold_to_deploy_with(tmp_path):
    folder = RunFolder(tmp_path)
    assert read_threshold(folder) is None  # a classifier

    def line(file, f1, confidence, **overrides):
        recipe = load_recipe("short", task="detection", overrides=overrides)
        folder.recipe.write_text(recipe.to_toml())
        file.write_text(json.dumps({"best_f1": {"F1": f1, "confidence": confidence}}))
        return read_threshold(folder)

    expected = "Best F1 0.761 on the test data, with `keras-spd predict --confidence 0.489`."
    assert line(folder.scores, 0.7612, 0.4894) == expected
    assert line(folder.scores, 0.0, -1.0) is None  # nothing was found
    tiled = line(folder.validation_scores, 0.5, 0.25, **{"data.tile": [320, 480]})
    expected = "on the validation data, with `keras-spd predict --confidence 0.250 --tile 320x480`."
    assert tiled == f"Best F1 0.500 {expected}"


@pytest.fixture
def boards(tmp_path):
    """YOLO's `data.yaml` with 6 images to train on, 3 to validate and 2 to test on."""
    from PIL import Image

    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        for number in range(count):
            image = tmp_path / "images" / split / f"{number}.png"
            label = tmp_path / "labels" / split / f"{number}.txt"
            for file in (image, label):
                file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(image)
            label.write_text("0 0.5 0.5 0.3 0.3\n")
    splits = "".join(f"{split}: images/{split}\n" for split in ("train", "val", "test"))
    (tmp_path / "data.yaml").write_text(f"names: [hole]\n{splits}")
    return tmp_path / "data.yaml"


def detection_splits(**sources):
    overrides = {f"data.{name}": value for name, value in sources.items()}
    recipe = load_recipe("short_detection", overrides={**overrides, "data.image_size": [64, 64]})
    return DetectionTask(recipe).splits


def sizes(splits):
    return [part and part.num_images for part in (splits.train, splits.validation, splits.test)]


def test_detectors_take_the_splits_of_data_yaml(boards):
    yaml = str(boards)
    splits = detection_splits(train=yaml, validation=yaml, test=yaml)
    assert sizes(splits) == [6, 3, 2] and splits.evaluated is splits.validation
    explicit = {"train": f"{yaml}:train", "validation": f"{yaml}:val", "test": f"{yaml}:test"}
    assert sizes(detection_splits(**explicit)) == [6, 3, 2]
    splits = detection_splits(train=yaml, test=f"{yaml}:val")
    assert sizes(splits) == [6, None, 3] and splits.evaluated is splits.test
    splits = detection_splits(train=yaml, validation=0.3, test=yaml)
    assert sizes(splits) == [4, 2, 2]
    held_out, left = ({i.name for i in part.images} for part in (splits.validation, splits.train))
    assert not held_out & left
    boards.write_text(boards.read_text().replace("test: images/test\n", ""))
    with pytest.raises(ValueError, match=r"has no split 'test'. It has: train, val"):
        detection_splits(train=yaml, test=yaml)


@pytest.mark.slow
def test_a_detector_is_scored_on_validation_and_test_images(boards, thin_networks, tmp_path):
    sources = {f"data.{name}": str(boards) for name in ("train", "validation", "test")}
    overrides = {**sources, "data.image_size": [64, 64]}
    task = DetectionTask(load_recipe("short_detection", overrides=overrides))
    folder = RunFolder(tmp_path / "run")
    assert task.score(task.build(), folder)["test_images"] == 2
    for path, boxes in ((folder.scores, 2), (folder.validation_scores, 3)):
        assert json.loads(path.read_text())["per_class"]["hole"]["boxes"] == boxes


def test_detectors_take_coco_files(tmp_path):
    files = [str(write_drawings(tmp_path / str(count), count)) for count in (5, 3, 2)]
    splits = detection_splits(train=files[0], validation=files[1], test=files[2])
    assert sizes(splits) == [5, 3, 2]
    splits = detection_splits(train=files[0], validation=0.4, test=files[2])
    assert sizes(splits) == [3, 2, 2]


@pytest.mark.parametrize("other", ["train", "test"])
def test_validation_data_is_not_that_of_another_split(boards, other):
    sources = {name: f"{boards}:{name}" for name in ("train", "test")}
    message = rf"`data.validation` and `data.{other}` \(`--validation` and `--{other}`\) must not"
    for same in (sources[other], f"{boards.parent / 'no' / '..' / boards.name}:{other}"):
        with pytest.raises(ValueError, match=message):
            detection_splits(**sources, validation=same)


@pytest.mark.parametrize(
    ("train", "validation", "wrong"),
    [
        ("train", "train[:10%]", "train"),
        ("train[10%:]", "train[:10%]", None),
        ("train[:40000]+train[45000:]", "train[39999:45000]", "train"),
        ("train[:40000]+train[45000:]", "train[40000:45000]", None),
        ("train", "test[:1000]", "test"),
    ],
)
def test_validation_splits_of_tfds_share_no_image(cifar10_dir, train, validation, wrong):
    overrides = {"data.name": "cifar10", "data.data_dir": str(cifar10_dir), "data.train": train}
    recipe = load_recipe("short", overrides={**overrides, "data.validation": validation})
    if wrong is None:
        splits = ClassificationTask(recipe).splits
        assert splits.train.num_images + splits.validation.num_images == 50_000
    else:
        with pytest.raises(ValueError, match=f"`data.{wrong}` .*must not have images in common"):
            ClassificationTask(recipe)


def test_the_same_data_twice(tmp_path, cells):
    recipe = load_recipe("demo")
    with pytest.raises(ValueError, match="`validation_data` and `test_data` are the same data"):
        ClassificationTask(recipe, cells[0], cells[1], validation_data=cells[1])
    with pytest.raises(ValueError, match="`validation_data` and `train_data` are the same data"):
        ClassificationTask(recipe, cells[0], cells[1], validation_data=cells[0])
    other = dataclasses.replace(cells[1], max_value=4095.0)
    with pytest.raises(ValueError, match="and validation data must have the same `max_value`"):
        ClassificationTask(recipe, cells[0], cells[1], validation_data=other)
    with pytest.raises(ValueError, match="`validation_data` must be a `keras_spd.data.Cl"):
        ClassificationTask(recipe, cells[0], cells[1], validation_data=np.zeros(3))


def test_packaged_data_is_not_looked_up_in_tfds():
    recipe = load_recipe("demo", overrides={"data.validation": "test"})
    with pytest.raises(ValueError, match="must not have images in common. Received: 'test'"):
        ClassificationTask(recipe)


@pytest.mark.parametrize("value", [0, 1, 1.0, -0.1, float("nan")])
def test_fractions_out_of_range(value):
    with pytest.raises(
        ValueError, match=r"data.validation: .*a fraction between 0 and 1. Received"
    ):
        load_recipe("demo", overrides={"data.validation": value})


def test_several_workers_do_not_stop_early():
    early, workers = keras.callbacks.EarlyStopping(), Distribution(workers=2)
    Distribution().check_stopping(3, [early])
    workers.check_stopping(None, [keras.callbacks.Callback()])
    with pytest.raises(ValueError, match=r"`patience` is for training on one machine"):
        workers.check_stopping(3, [])
    with pytest.raises(ValueError, match=r"`EarlyStopping` is for training on one machine"):
        workers.check_stopping(None, [early])


@pytest.mark.parametrize("name", ["test", "validation"])
def test_scored_data_has_the_classes_of_the_training_data(cells, name):
    other = dataclasses.replace(cells[1], class_names=("a", "c", "b"))
    recipe = load_recipe("demo", overrides=OVERRIDES | {"data.validation": None})
    splits = {"train_data": cells[0], "test_data": cells[1], f"{name}_data": other}
    with pytest.raises(ValueError, match=f"and {name} data must have the same classes in the same"):
        ClassificationTask(recipe, **splits)


@pytest.mark.slow
def test_a_run_that_was_stopped_before_its_first_evaluation(tmp_path, fit):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    with pytest.raises(ValueError, match="was stopped before its first evaluation. Resume it, or"):
        fit(tmp_path, epochs=2, evaluate_every=2, callbacks=[Stop()])
    fit(tmp_path, epochs=2, evaluate_every=2, resume=True)
    assert record(tmp_path)["evaluations"] == 1
