"""The command line as a user meets it."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_classifier

from keras_spd.apps import demo
from keras_spd.training import load_recipe


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "resnet20_spd", "--dataset", "blood_cells"],
            "There is no network 'resnet20_spd'",
        ),
        (["train", "yolov5_spd_n"], "A detector is trained on your data: `--train ..."),
        (["train", "yolov5_spd_n", "--train", "a.json"], "`--train` needs `--test`"),
        (
            ["train", "--train", "a", "--set", "data.test=b", "--recipe", "few_images"],
            "There is no folder a.",
        ),
        (["export", "bccd", "--dataset", "cifar10"], "`--dataset` and `--images` need `--data`"),
        (["export", "bccd", "none/bccd.tflite"], "There is no folder none to write to."),
        (["export", "bccd", "--format", "saved_model", "--batch-size", "4"], "omit `--batch-size`"),
        (["check-data", "a.json", "--output", "none/a.json"], "There is no folder none"),
        (["demo", "--web", "--epochs", "3"], "omit `--classifier` and `--epochs`"),
        (["train", "--recipe", "long"], "There is no recipe 'long'"),
        (["train", "--recipe", "demo", "--set", "epochs"], "`--set` takes FIELD=VALUE"),
        (["train", "--recipe", "demo", "--set", "epoch=3"], "Did you mean `epochs`"),
        (
            ["demo", "--port", "7870"],
            "`--weights`, `--port` and `--host` are for `keras-spd demo --web`",
        ),
        (["train", "--resume"], "`--resume` needs the run folder"),
        (["train", "--resume", "--run", "none"], "no run to resume in none"),
        (
            ["train", "--resume", "--run", "none", "--batch-size", "9", "--epochs", "9"],
            "combined with `--run`, `--epochs` and `--devices`. Received: batch_size=9.",
        ),
    ],
)
def test_errors_are_words_and_not_tracebacks(keras_spd, arguments, message):
    result = keras_spd(*arguments)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("keras-spd: ")]
    assert len(lines) == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_verbose_shows_the_traceback(keras_spd):
    with pytest.raises(ValueError, match="There is no recipe 'long'"):
        keras_spd("train", "--recipe", "long", "--verbose")


@pytest.mark.slow
def test_train_and_resume(keras_spd, thin_networks, tmp_path):
    options = ["--recipe", "demo", "--run", "run", "--epochs", 1, "--set", "batch_size=256"]
    strided = 'model.options={"downsampling": "strided", "stem_stride": 2}'
    result = keras_spd("train", "resnet18_spd", *options, "--set", strided)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert f"Test accuracy {results['test_accuracy']:.4f}" in result.stdout
    assert results["model"] == "resnet18_strided"
    again = keras_spd("train", "resnet18_spd", *options)
    assert again.returncode == 1 and "already holds a run" in again.stderr
    resumed = keras_spd("train", "--resume", "--run", "run")
    assert resumed.returncode == 0, resumed.stderr
    assert "The run in run is finished (1 of 1 epochs)." in resumed.stderr
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert "--epochs" in environment["command"]
    assert "--resume" in environment["resumed"][0]["command"]


@pytest.mark.slow
def test_demo(keras_spd, tmp_path, monkeypatch):
    settings, measure, copy = demo._settings, demo._time, demo.copy_small_cells

    def copy_few(folder):
        copy(folder)
        labels = json.loads((folder / "test.json").read_text())
        labels["images"] = labels["images"][:8]
        kept = {image["id"] for image in labels["images"]}
        labels["annotations"] = [box for box in labels["annotations"] if box["image_id"] in kept]
        (folder / "test.json").write_text(json.dumps(labels))

    monkeypatch.setattr(demo, "copy_small_cells", copy_few)
    monkeypatch.setattr(demo, "_settings", lambda epochs: settings(epochs) | {"batch_size": 40})
    monkeypatch.setattr(demo, "_time", lambda model, images: measure(model, images, repeats=1))
    result = keras_spd("demo", "out", "--epochs", 1)
    assert result.returncode == 0, result.stderr
    cost, warm_up, building = result.stderr.splitlines()
    assert re.fullmatch(
        r"yolov5_spd_n: [\d,]+ parameters, 0\.\d+ G multiply-adds per image\.", cost
    )
    assert "The learning rate rises for 100 % of the run." in warm_up  # of one epoch
    assert building == "yolov5_spd_n: building the graph, about 20 s."
    [before, after] = re.findall(r"(?:Before|After): .*?AP (\d+\.\d)$", result.stdout, re.M)
    assert 10 < float(before) < 90 and 0 < float(after) < 90
    assert re.search(r"compared with Keras: (99|100)\.\d% of \d+ boxes are the same", result.stdout)
    assert re.search(r"^   spd +0\.\d+ G +\d+\.\d +37\.2$", result.stdout, re.M)
    for name in ("model.keras", "model.tflite", "found.png", "results.json", "cells/train.json"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    commands = re.findall("^  keras-spd (.*)$", result.stdout, re.M)
    assert [command.split()[0] for command in commands] == ["predict", "check-data", "train"]
    checked = keras_spd(*commands[1].split())
    assert checked.returncode == 0 and "0 problems." in checked.stdout


def test_demo_replaces_no_run(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.toml").touch()  # as a run of `train` has it
    with pytest.raises(ValueError, match="is not empty and holds no demo"):
        demo.prepare(tmp_path / "mine")
    assert (tmp_path / "mine" / "recipe.toml").exists()


def test_a_demo_of_no_epochs_is_refused():
    """It took no epochs for the default."""
    with pytest.raises(ValueError, match="epochs: Input should be greater than or equal to 1"):
        load_recipe("finetune_detection", overrides=demo._settings(0))


def test_a_demo_deletes_only_what_an_earlier_one_wrote(tmp_path):
    for name in ("mine.png", "found.png", "state.weights.h5", "cells/train.json"):
        (tmp_path / "demo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "demo" / name).touch()
    (tmp_path / "demo" / ".demo").touch()
    demo.prepare(tmp_path / "demo")
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {".demo", "mine.png"}


def test_demo_tells_what_was_measured():
    page = pathlib.Path(__file__).parents[2] / "benchmarks" / "spd_or_strides.md"
    [row] = re.findall(r"^\| AP \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", page.read_text(), re.M)
    spd, strided, wider = (float(value.strip("*")) for value in row)
    assert {"spd": spd, "strided": strided, "wider": wider} == demo.BOARDS


@pytest.mark.slow
def test_detector_from_data_to_pictures(keras_spd, thin_networks, tmp_path, monkeypatch):
    """check-data, train, evaluate and predict on a dataset that was never seen before."""
    from drawings import write_drawings

    monkeypatch.setattr("keras_spd.export.images.VERIFIED", 2)  # images of noise, for `export`
    labels = write_drawings(tmp_path / "drawings")
    checked = keras_spd("check-data", labels, "--image-size", "64x96")
    assert checked.returncode == 0, checked.stderr
    assert "8 images, 0 of them without a box; 16 boxes" in checked.stdout
    assert "0 problems." in checked.stdout

    options = ["--image-size", "64x96", "--epochs", 1, "--run", "run", "--set", "batch_size=4"]
    options += ["--set", 'model.options={"levels": ["P4"]}']
    trained = keras_spd("train", "yolov5_spd_n", "--train", labels, "--test", labels, *options)
    assert trained.returncode == 0, trained.stderr
    assert "building the graph, about 20 s" in trained.stderr
    assert "AP50" in trained.stdout and "nan" not in trained.stdout

    weights = ["--weights", "run/model.keras"]
    scored = keras_spd("evaluate", labels, *weights, "--output", "scores")
    assert scored.returncode == 0, scored.stderr
    assert "Average precision, IoU 0.50:0.95, all sizes" in scored.stdout
    for name in ("scores.json", "detections.json", "precision_recall.png", "confusion_matrix.png"):
        assert (tmp_path / "scores" / name).stat().st_size > 100
    for result in json.loads((tmp_path / "scores" / "detections.json").read_text())[:5]:
        assert set(result) == {"image_id", "category_id", "bbox", "score"}

    images = tmp_path / "drawings" / "images"
    found = keras_spd("predict", images, *weights, "--confidence", 0.0001)
    assert found.returncode == 0, found.stderr
    entries = json.loads((tmp_path / "predictions" / "detections.json").read_text())
    assert len(entries) == 8 and all(entry["detections"] for entry in entries)
    assert all((tmp_path / "predictions" / entry["picture"]).is_file() for entry in entries)

    exported = keras_spd("export", "run/model.keras", "boards.tflite")
    assert exported.returncode == 0, exported.stderr
    assert "boards.tflite: " in exported.stdout
    assert (
        "Not compared with the Keras model" in exported.stdout
    )  # noise, and a barely trained network
    tflite = keras_spd("predict", images, "--weights", "boards.tflite")
    assert tflite.returncode == 0, tflite.stderr
    refused = keras_spd("export", "run/model.keras", "--quantize", "int8")
    assert refused.returncode == 1 and "needs `--data`" in refused.stderr

    served = keras_spd("export", "run/model.keras", "served", "--format", "saved_model", "--fold")
    assert served.returncode == 0, served.stderr
    assert (tmp_path / "served" / "saved_model.pb").is_file()

    (images / "3.png").write_bytes(b"broken")
    broken = keras_spd("check-data", labels)
    assert broken.returncode == 1 and "3.png" in broken.stdout and "1 problem" in broken.stdout
    stopped = keras_spd("evaluate", labels, *weights)
    assert stopped.returncode == 1 and "3.png" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    skipped = keras_spd("evaluate", labels, *weights, "--on-problem", "skip")
    assert skipped.returncode == 0 and "3.png" in skipped.stderr


@pytest.mark.slow
def test_classifier_from_folders_to_scores(keras_spd, thin_networks, tmp_path):
    """Trains on and scores the cells that the shipped images come from, as files."""
    from PIL import Image

    from keras_spd import data

    images, labels = data.load_blood_cells("train").batches(60)[0]
    names = ("RBC", "WBC", "Platelets")
    for index, (pixels, label) in enumerate(zip(images.astype("uint8"), labels, strict=True)):
        folder = tmp_path / ("train" if index < 40 else "test") / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((16, 16)).save(folder / f"{index} ü.png")
    options = ["--train", "train", "--test", "test", "--epochs", 1, "--set", "batch_size=20"]
    options += ["--validation", "0.25"]
    trained = keras_spd("train", "resnet18_spd", *options, "--run", "run")
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["chosen_on"] == "validation"
    [accuracy] = re.findall(r"Test accuracy (\d\.\d+)", trained.stdout)

    weights = ["--weights", "run/model.keras", "--output", "scores"]
    scored = keras_spd("evaluate", "test", *weights)
    assert scored.returncode == 0, scored.stderr
    assert f"Accuracy {accuracy} on 20 images" in scored.stdout
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert set(scores["accuracy_by_class"]) <= set(names)
    assert (tmp_path / "scores" / "confusion_matrix.png").stat().st_size > 1000


@pytest.mark.slow
def test_explain(keras_spd, tmp_path):
    from PIL import Image

    Image.linear_gradient("L").convert("RGB").save(tmp_path / "gradient.png")
    options = ["--weights", "cifar10", "--beside", "bccd", "--output", "pictures"]
    result = keras_spd("explain", "gradient.png", *options)
    assert result.returncode == 0, result.stderr
    kinds = ("features", "grad_cam", "confidence")
    names = [f"00000_gradient_{kind}.png" for kind in kinds]
    assert [line.split("/")[-1] for line in result.stdout.split()] == names
    pictures = [np.asarray(Image.open(tmp_path / "pictures" / name)) for name in names]
    for picture, widest in zip(pictures, (900, 900, 700), strict=True):  # five resolutions; three
        assert picture.shape[1] > widest and picture.std() > 30
    tiles = ["explain", "gradient.png", "--tile", "160", "--output", "tiles", "--weights"]
    result = keras_spd(*tiles, "bccd")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.glob("tiles/*")] == ["00000_gradient_confidence.png"]
    tiny_classifier(statistics="cifar10").save(tmp_path / "tiny.keras")
    assert "`--tile` is for detectors" in keras_spd(*tiles, "tiny.keras").stderr
    refused = keras_spd("explain", "nowhere.png", "--weights", "cifar10")
    assert refused.returncode == 1 and "nowhere.png: there is no such file" in refused.stderr


def test_list(keras_spd):
    result = keras_spd("list")
    assert result.returncode == 0
    assert "short_detection" in result.stdout and "40 epochs" in result.stdout
    assert "yolov5_spd_n" in result.stdout and "YOLOV5SPD(weights='bccd'" in result.stdout


@pytest.mark.slow
def test_convert_refuses_what_it_cannot_read(keras_spd, tmp_path):
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    refused = keras_spd("convert", "bad.pt", "out.keras")
    assert refused.returncode == 1 and "bad.pt is not a readable PyTorch file" in refused.stderr
    wrong = keras_spd("convert", "bad.pt", "out.onnx")
    assert wrong.returncode == 1 and "must end in .keras" in wrong.stderr
    assert not (tmp_path / "out.keras").exists()


@pytest.mark.slow
def test_export_of_a_classifier(keras_spd, thin_networks, tmp_path):
    from keras_spd.applications import STATISTICS, ResNet18SPD

    model = ResNet18SPD(weights=None, classes=3, input_shape=(32, 32, 3))
    model.info = dataclasses.replace(model.info, statistics=STATISTICS["imagenet"])
    model.get_layer("logits").kernel.assign(50 * model.get_layer("logits").kernel)
    model.save(tmp_path / "cells.keras")
    options = ["--quantize", "int8", "--dataset", "blood_cells", "--data", "train"]
    exported = keras_spd("export", "cells.keras", *options)
    assert exported.returncode == 0, exported.stderr
    assert "cells_int8.tflite: 0." in exported.stdout
    assert "images get the same class" in exported.stdout
    rng = np.random.default_rng(0)
    for index in range(3):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype="uint8")
        Image.fromarray(pixels).resize((40, 32)).save(tmp_path / f"{index}.png")
    first = []
    for weights in ("cells.keras", "cells_int8.tflite"):
        found = keras_spd("predict", "*.png", "--weights", weights, "--output", ".")
        assert found.returncode == 0, found.stderr
        first.append(json.loads((tmp_path / "classes.json").read_text()))
        for picture in tmp_path.glob("0000*.png"):
            picture.unlink()
    for of_keras, of_file in zip(*first, strict=True):
        assert of_keras["classes"][0]["class"] == of_file["classes"][0]["class"]
        confidence = [entry["classes"][0]["confidence"] for entry in (of_keras, of_file)]
        assert confidence[0] == pytest.approx(confidence[1], abs=0.1)
    refused = keras_spd("export", "cells.keras", "--iou", "0.5")
    assert refused.returncode == 1 and "are for detectors" in refused.stderr
    refused = keras_spd("export", "cells.keras", "--data", "nowhere")
    assert refused.returncode == 1 and "must be a folder of images" in refused.stderr


@pytest.mark.slow
def test_export_to_onnx(keras_spd, tmp_path, monkeypatch):
    pytest.importorskip("tf2onnx", reason="ONNX files are written with it")
    from tiny import one_layer_detector

    from keras_spd.export.exported_models import load_exported

    monkeypatch.setattr("keras_spd.export.images.VERIFIED", 2)  # images of noise
    one_layer_detector().save(tmp_path / "camera.keras")
    exported = keras_spd("export", "camera.keras", "--format", "onnx", "--confidence", "0.2")
    assert exported.returncode == 0, exported.stderr
    written, compared = exported.stdout.splitlines()
    assert written.startswith("camera.onnx: ") and written.endswith(", images of 64x96")
    assert re.search(r"on 2 noise images.*: 100\.0% of the boxes are found by both", compared)
    assert load_exported(tmp_path / "camera.onnx").decoder.confidence_threshold == 0.2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode")
def test_a_file_name_that_is_not_utf8_is_printed(tmp_path):
    for name in (b"a.png", b"caf\xe9.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / os.fsdecode(name))
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    command = [sys.executable, "-m", "keras_spd", "check-data", tmp_path]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run(command, env=strict, capture_output=True)
    assert result.returncode == 0 and rb"caf\udce9.png" in result.stdout
