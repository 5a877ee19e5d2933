"""Conventions of all commands: help, option names, exit codes, completion."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys
import typing

import keras
import numpy as np
import pytest
import typer
from drawings import write_drawings
from PIL import Image
from tiny import tiny_classifier
from typer.models import OptionInfo

import keras_spd
from keras_spd import applications, training
from keras_spd import cli as command_line
from keras_spd.applications import ImageModel, ModelInfo
from keras_spd.cli import completion, main
from keras_spd.cli.main import app
from keras_spd.data import load_blood_cells
from keras_spd.export.images import read_classifier_images, read_detector_images
from keras_spd.images.geometry import GRAY
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.images.read import read_image
from keras_spd.predict import Predictor, score_files
from keras_spd.training import recipe_files

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def run(monkeypatch, *arguments):
    """Runs the command in this process, and returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["keras-spd", *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        main()
    return error.value.code or 0


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(monkeypatch, capsys, name):
    assert run(monkeypatch, name, "--help") == 0
    assert f"Example: keras-spd {name}" in capsys.readouterr().out


@pytest.mark.parametrize("file", sorted(pathlib.Path(command_line.__file__).parent.glob("*.py")))
def test_files_of_the_command_line_parse_call_and_print(file):
    """Logic belongs to the library: at most 60 lines without docstrings and imports."""
    text = file.read_text(encoding="utf-8")
    counted = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, (ast.Import, ast.ImportFrom)):
            counted -= set(range(node.lineno, (node.end_lineno or 0) + 1))
    assert len(counted) <= 60


def test_an_option_is_the_same_in_all_commands():
    kinds: dict[str, set] = {}
    for command in app.registered_commands:
        for name, hint in typing.get_type_hints(command.callback, include_extras=True).items():
            if any(isinstance(entry, OptionInfo) for entry in getattr(hint, "__metadata__", ())):
                given = set(typing.get_args(hint.__origin__)) or {hint.__origin__}
                # An option that may be repeated has the same type.
                given = {kind for hint in given for kind in typing.get_args(hint) or [hint]}
                kinds.setdefault(name, set()).add(frozenset(given - {type(None)}))
    assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}
    assert {"weights", "image_size", "batch_size", "output", "confidence"} <= set(kinds)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["list"], 0),
        (["predict", "missing.jpg", "--weights", "bccd"], 1),
        (["check-data", "missing.json"], 1),
        (["benchmark", "missing.keras"], 1),
        (["convert", "missing.pt", "out.keras"], 1),
        (["evaluate", "missing.json", "--weights", "bccd"], 1),
        (["export", "missing.keras"], 1),
        (["train", "resnet20_spd"], 1),
        (["fly"], 2),
        (["list", "--colour"], 2),
        (["predict", "a.jpg"], 2),  # --weights is missing
        (["predict", "a.jpg", "--weights", "bccd", "--batch-size", "0"], 2),
        (["predict", "a.jpg", "--weights", "bccd", "--confidence", "2"], 2),
        (["predict", "a.jpg", "--weights", "bccd", "--iou", "-1"], 2),
        (["predict", "a.jpg", "--weights", "bccd", "--tile", "64", "--overlap", "0.9"], 2),
        (["predict", "a.jpg", "--weights", "bccd", "--image-size", "99968"], 1),
        (["predict", "a.jpg", "--weights", "bccd", "--tile", "99968"], 1),
        (["evaluate", "a.json", "--weights", "bccd", "--iou", "1.5"], 2),
        (["export", "bccd", "--confidence", "25"], 2),
        (["export", "bccd", "--image-size", "64", "--image-size", "64x99968"], 1),
        (["benchmark", ".", "--threads", "99968"], 1),
        (["demo", "--web", "--port", "-1"], 2),
        (["demo", "--web", "--port", "65536"], 2),
        (["export", "bccd", "--format", "coreml"], 2),
        (["export", "bccd", "--quantize", "int4"], 2),
        (["evaluate", "a.json", "--weights", "bccd", "--on-problem", "cry"], 2),
        (["export", "bccd", "--on-problem", "cry"], 2),
        (["train", "--on-problem", "cry"], 2),
    ],
)
def test_exit_codes(monkeypatch, capsys, tmp_path, arguments, code):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == code
    error = capsys.readouterr().err
    assert "Traceback" not in error
    if code == 1:
        [line] = [line for line in error.splitlines() if line.startswith("keras-spd: ")]
        assert any(part in line for part in ("missing", "resnet20_spd", "99968"))


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("keras_spd.predict.find_sources", fail)
    assert run(monkeypatch, "predict", "a.jpg", "--weights", "bccd") == 1
    assert capsys.readouterr().err == (
        "keras-spd: out of memory. Lower `--batch-size` or `--image-size`.\n"
    )


def test_the_memory_of_a_gpu_of_jax_is_one_line(monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")

    monkeypatch.setattr("keras_spd.predict.find_sources", fail)
    assert run(monkeypatch, "predict", "a.jpg", "--weights", "bccd") == 1
    assert capsys.readouterr().err.startswith("keras-spd: out of memory. Lower")


@pytest.mark.slow
def test_detection_data_without_a_box_are_not_scored(monkeypatch, capsys, tmp_path):
    file = write_drawings(tmp_path / "drawings", count=2)
    content = json.loads(file.read_text()) | {"annotations": []}
    content["categories"] = [
        {"id": i, "name": n} for i, n in enumerate(("RBC", "WBC", "Platelets"))
    ]
    file.write_text(json.dumps(content))
    output = tmp_path / "out"
    assert run(monkeypatch, "evaluate", file, "--weights", "bccd", "--output", output) == 1
    assert "no boxes in the data to score on (2 images" in capsys.readouterr().err
    assert not list(output.glob("*.json"))


@pytest.mark.parametrize("given", [None, "skip", "error"])
@pytest.mark.parametrize("model", ["yolov5_spd_n", "resnet18_spd"])
def test_training_follows_on_problem(monkeypatch, tmp_path, model, given):
    recipes = []
    monkeypatch.setattr(training, "train", lambda recipe, *_, **__: recipes.append(recipe))
    file = tmp_path / "mine.toml"
    task = "detection" if model.startswith("yolo") else "classification"
    file.write_text(f'task = "{task}"\n[data]\non_problem = "skip"\n')
    options = ["--on-problem", given] if given else []
    arguments = ["train", model, "--train", "a", "--test", "b", "--recipe", file, *options]
    assert run(monkeypatch, *arguments) == 0
    assert [recipe.data.on_problem for recipe in recipes] == [given or "skip"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "There is nothing to train on. Give a network and your data"),
        (["resnet18_spd"], "There is nothing to train on"),
        (
            ["--recipe", "demo", "--set", "epochs=2", "--set", "epochs=3"],
            "contradict.*`epochs` is 2",
        ),
        (["--recipe", "demo", "--epochs", 2, "--set", "epochs=3"], "contradict.*`epochs` is 2"),
        (["--dataset", "cifar10", "--set", "data.name=mnist"], "contradict.*`data.name`"),
        (
            [
                "--recipe",
                "demo",
                "--set",
                "model.options.shortcut=spd",
                "--set",
                "model.options={}",
            ],
            "contradict.*`model.options.shortcut`",
        ),
        (
            ["yolov5_spd_n", "--backbone", "cifar10", "--weights", "bccd"],
            "backbone. Received: --backbone cifar10 and bccd",
        ),
        (["--backbone", "a.keras", "--model", "b.keras"], "a.keras and b.keras"),
        (
            ["resnet18_spd", "--backbone", "cifar10"],
            "is a classifier.*--weights cifar10",
        ),
    ],
)
def test_train_refuses_to_guess(monkeypatch, capsys, options, message):
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("it trains"))
    assert run(monkeypatch, "train", *options) == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("model", "options", "chosen"),
    [
        ("yolov5_spd_n", ["--weights", "bccd"], "finetune_detection"),
        ("yolov5_spd_n", ["--weights", "bccd", "--recipe", "short"], "short_detection"),
        ("yolov5_spd_n", [], "short_detection"),
        ("yolov5_spd_n", ["--backbone", "cifar10"], "short_detection"),
        ("resnet18_spd", ["--weights", "mine.pt"], "few_images"),
        ("resnet18_spd", [], "short"),
    ],
)
def test_weights_choose_the_recipe(monkeypatch, model, options, chosen):
    recipes = []
    monkeypatch.setattr(training, "train", lambda recipe, *_, **__: recipes.append(recipe))
    assert run(monkeypatch, "train", model, "--train", "a", "--test", "b", *options) == 0
    [recipe] = recipes
    assert recipe.description == training.load_recipe(chosen).description
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert recipe.model.weights == given.get("--weights")
    assert recipe.model.backbone == given.get("--backbone")


def write_noise(rng, file, size=(32, 64)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype="uint8")).save(file)


@pytest.mark.parametrize("labelled", [True, False])
def test_export_skips_broken_images(rng, caplog, tmp_path, labelled):
    """A detector's calibration images need no boxes."""
    for name in ("a.png", "b.png", "c.png"):
        write_noise(rng, tmp_path / "images" / name)
    if labelled:
        write_yolo_label(tmp_path / "labels" / "c.txt")
    whole = read_detector_images(str(tmp_path), (64, 64))
    assert whole.shape == (3, 64, 64, 3)
    (tmp_path / "images" / "b.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"b.png[\s\S]*--on-problem skip"):
        read_detector_images(str(tmp_path), (64, 64))
    with pytest.raises(ValueError, match="b.png.*--on-problem skip"):
        read_classifier_images(str(tmp_path), (32, 32), Preprocessing())
    rest = read_detector_images(str(tmp_path), (64, 64), on_problem="skip")
    np.testing.assert_array_equal(rest, whole[[0, 2]])
    kept = read_classifier_images(str(tmp_path), (32, 32), Preprocessing(), on_problem="skip")
    assert len(kept) == 2
    assert "b.png" in caplog.text


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_export_resizes_a_classifiers_images_as_its_preprocessing_says(rng, tmp_path, resize):
    write_noise(rng, tmp_path / "a.png", size=(16, 48))
    preprocessing = Preprocessing(resize=resize)
    [pixels] = read_classifier_images(str(tmp_path), (32, 32), preprocessing)
    is_gray = bool((pixels[:8] == GRAY).all())  # the bars above and below
    assert is_gray == (resize == "letterbox")
    expected = preprocessing.resize_image(read_image(tmp_path / "a.png"), (32, 32))
    np.testing.assert_array_equal(pixels, expected)


def write_yolo_label(file, *boxes):
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(boxes or ["0 0.5 0.5 0.5 0.5"]))


def test_check_data_refuses_sizes_that_no_detector_takes(monkeypatch, capsys, tmp_path):
    file = write_drawings(tmp_path / "drawings", count=2)
    assert run(monkeypatch, "check-data", file, "--image-size", "64x96") == 0
    assert run(monkeypatch, "check-data", file, "--image-size", "300") == 1
    assert "must be one or two multiples of 32" in capsys.readouterr().err
    assert run(monkeypatch, "check-data", file, "--tile", "50") == 0  # in a network of 64x64


def test_check_data_says_each_thing_once(rng, monkeypatch, capsys, caplog, tmp_path):
    for index in range(8):
        write_noise(rng, tmp_path / "images" / f"{index}.png")
    clipped = "0 0.9 0.5 0.28 0.5"  # to 1.04
    write_yolo_label(tmp_path / "labels" / "0.txt", "0 0.5 0.5 0.4 0.4", clipped)
    assert run(monkeypatch, "check-data", tmp_path) == 0
    shown = capsys.readouterr().out
    names = ", ".join(str(tmp_path / "images" / f"{index}.png") for index in range(1, 6))
    assert "8 images, 7 of them without a box; 2 boxes, 0 crowd regions." in shown
    assert f"Without a box: {names}, ...\n" in shown and "0 problems." in shown
    assert "Note: 1 box reaches" in shown and "up to 4.0%" in shown
    assert shown.count("0.txt: line 2") == 1 and not caplog.records

    write_yolo_label(tmp_path / "labels" / "1.txt", "0 0.5 0.5 -0.4 0.4")
    assert run(monkeypatch, "check-data", tmp_path) == 1
    shown = capsys.readouterr().out
    assert "1 problem:\n" in shown and shown.count("1.txt: line 1") == 1 and not caplog.records
    write_yolo_label(tmp_path / "labels" / "0.txt", "")
    assert run(monkeypatch, "check-data", tmp_path) == 1
    assert "no boxes in the data. YOLO: put `labels/`" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("given", ["yolo/data.yaml:val", "yolo", "voc"])
def test_data_with_boxes_are_not_for_classifiers(rng, monkeypatch, capsys, tmp_path, given):
    monkeypatch.chdir(tmp_path)
    write_noise(rng, tmp_path / "yolo" / "images" / "val" / "a.png")
    (tmp_path / "yolo" / "labels").mkdir()
    (tmp_path / "yolo" / "data.yaml").write_text("names: [a]\nval: images/val\n")
    write_noise(rng, tmp_path / "voc" / "JPEGImages" / "a.png")
    (tmp_path / "voc" / "Annotations").mkdir()
    tiny_classifier(names=("a", "b", "c"), statistics="cifar10").save("tiny.keras")
    assert run(monkeypatch, "evaluate", given, "--weights", "tiny.keras") == 1
    said = capsys.readouterr().err
    assert said.startswith("keras-spd: tiny.keras is a classifier. ") and "for detectors" in said
    assert "a subfolder of images for each class, FOLDER/CLASS/image.png" in said
    assert run(monkeypatch, "train", "resnet18_spd", "--train", given, "--test", given) == 1
    assert said.replace("tiny.keras is", "resnet18_spd is") in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "a.png").touch()
    arguments = ["a.png", "--weights", "bccd", "--image-size", "64", "--output", "file"]
    assert run(monkeypatch, "predict", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("keras-spd: ") and "'file'" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("where", "name"), [(recipe_files, "list_recipes"), (sys.modules[main.__module__], "app")]
)
def test_interruption(monkeypatch, capsys, where, name):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, name, interrupt)
    assert run(monkeypatch, "list") == 130
    assert capsys.readouterr().err == ""


def test_ctrl_c_in_training_says_how_to_resume(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupt)
    assert run(monkeypatch, "train", "--recipe", "demo", "--run", "new") == 130
    expected = "\nStopped. Nothing is saved yet: no epoch was completed.\n"
    assert capsys.readouterr().err == expected
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "state.weights.h5").touch()
    monkeypatch.setattr("keras_spd.training.errors.saved_epochs", lambda _: 3)
    assert run(monkeypatch, "train", "--recipe", "demo", "--run", tmp_path / "old") == 130
    resume = f"keras-spd train --resume --run {tmp_path / 'old'}\n"
    assert capsys.readouterr().err.endswith(f"Saved so far: 3 epochs. Resume with: {resume}")


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_found(monkeypatch, tmp_path):
    for index in range(5):
        Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / f"{index}.png")
    predict, batches = Predictor.predict_prepared, []

    def interrupted_at_the_second(self, batch):
        batches.append(batch)
        if len(batches) == 2:
            raise KeyboardInterrupt  # as Python does at Ctrl-C
        return predict(self, batch)

    monkeypatch.setattr(Predictor, "predict_prepared", interrupted_at_the_second)
    options = ["--image-size", "64", "--batch-size", "2", "--output", tmp_path / "out"]
    assert run(monkeypatch, "predict", tmp_path, "--weights", "bccd", *options) == 130
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry["image"][-5:] for entry in found] == ["0.png", "1.png"]


def test_completed_names_are_the_real_ones():
    assert completion.networks("") == [*applications.CLASSIFIERS, *applications.DETECTORS]
    assert completion.recipes("") == training.list_recipes()
    assert completion.weights("") == [preset.short_name for preset in keras_spd.list_models()]


COMPLETE = """
import sys
sys.argv = ["keras-spd"]
from keras_spd.cli import main
try:
    main()
finally:
    loaded = {"keras", "tensorflow", "numpy"} & set(sys.modules)
    print(sorted(loaded), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("keras-spd pre", ["predict"]),
        ("keras-spd train yolov5_spd_", [f"yolov5_spd_{size}" for size in "nsmlx"]),
        ("keras-spd train --recipe short", ["short", "short_detection"]),
        ("keras-spd predict --weights b", ["bccd"]),
        ("keras-spd export cif", ["cifar10"]),
        ("keras-spd predict --webc", ["--webcam"]),
        ("keras-spd export --format sav", ["saved_model"]),
    ],
)
def test_completion(line, expected):
    variables = {
        "_KERAS_SPD_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    result = subprocess.run(
        [sys.executable, "-c", COMPLETE],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )
    assert result.stdout.split() == expected, result.stderr
    assert result.stderr == "[]\n"  # so that a Tab is answered at once


def test_completion_can_be_installed(monkeypatch, capsys):
    monkeypatch.setenv(
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1"
    )  # or it may not be asked
    assert run(monkeypatch, "--show-completion", "bash") == 0
    assert "_KERAS_SPD_COMPLETE=complete_bash" in capsys.readouterr().out


def test_mirror_is_for_classifiers(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(score_files, "load_predictor", lambda *args, **options: None)
    assert run(monkeypatch, "evaluate", "a.json", "--weights", "bccd", "--mirror") == 1
    message = "`mirror` (`--mirror`) is for classifiers. Received: bccd, a detector."
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_classifier_is_scored_on_the_packaged_images(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs))
    names = ("RBC", "WBC", "Platelets")
    ImageModel(inputs, outputs, info=ModelInfo(class_names=names, input_range=(0, 1))).save(
        "a.keras"
    )
    assert (
        run(monkeypatch, "evaluate", "test", "--dataset", "blood_cells", "--weights", "a.keras")
        == 0
    )
    plain = capsys.readouterr().out
    assert "on 614 images" in plain and "mirror" not in plain
    given = ["evaluate", "test", "--dataset", "blood_cells", "--weights", "a.keras", "--mirror"]
    assert run(monkeypatch, *given) == 0
    line, mirror, *_ = capsys.readouterr().out.splitlines()
    assert line == plain.splitlines()[0]
    images, labels = load_blood_cells("test").batches(614)[0]
    model = keras.saving.load_model("a.keras")
    rows = sum(model.predict(x / 255, verbose=0) for x in (images, images[:, :, ::-1]))
    expected = (rows.argmax(axis=1) == labels).mean()
    assert mirror == f"  with mirror images averaged in: {expected:.4f}"
    given = ["evaluate", "val", "--dataset", "blood_cells", "--weights", "a.keras"]
    assert run(monkeypatch, *given) == 1
    assert '`split` must be "train" or "test". Received: split=\'val\'' in capsys.readouterr().err
