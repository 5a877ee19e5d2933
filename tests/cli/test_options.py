"""Every option reaches the function that it is for. Each has a value of its own here."""

import enum
import os
import sys
import types

import numpy as np
import pytest
import typer
from tiny import tiny_detector

import keras_spd.benchmark
import keras_spd.data
from keras_spd import cli, explain, predict, training
from keras_spd.apps import object_stores, ray
from keras_spd.cli.main import app
from keras_spd.data.detection import check
from keras_spd.export import formats, images, serving
from keras_spd.predict import score_files

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SIZES = ("--image-size", "96x64", "--tile", "128x96", "--overlap", 0.3)
DATA = ("--dataset", "mine", "--images", "photos", "--data-dir", "data", "--on-problem", "skip")
READ = {"name": "mine", "images": "photos", "data_dir": "data", "on_problem": "skip"}
TILED = {"image_size": (96, 64), "tile": (128, 96), "overlap": 0.3}
TRAIN = (
    *("train", "yolov5_spd_n", "--train", "a.json", "--validation", 0.2, "--test", "b.json"),
    *(*SIZES, "--images", "photos", "--data-dir", "data", "--on-problem", "skip", "--workers", 2),
    *("--epochs", 3, "--batch-size", 5, "--seed", 9, "--weights", "bccd", "--class-map", "a=RBC"),
    *("--recipe", "finetune", "--set", "loss.box_gain=0.5", "--run", "run", "--devices", "all"),
)
EVALUATE = ("evaluate", "a.json", "--weights", "bccd", *SIZES, *DATA, "--confidence", 0.02)
EVALUATE = (*EVALUATE, "--iou", 0.55, "--mirror", "--batch-size", 7, "--output", "out")
PREDICT = ("predict", "a.png", "--weights", "bccd", *SIZES, "--confidence", 0.3, "--iou", 0.4)
PREDICT = (*PREDICT, "--batch-size", 7, "--output", "out")
LOCAL = ("--webcam", 3, "--no-pictures", "--no-labels", "--annotations", "yolo")
RAY = ("--engine", "ray", "--address", "ray://head", "--workers", 5)
EXPORT = ("export", "bccd", "a.tflite", "--format", "tflite", "--quantize", "int16x8", *DATA)
EXPORT = (*EXPORT, "--data", "a.json", "--image-size", "64", "--image-size", "96x64", "--no-fold")
EXPORT = (*EXPORT, "--batch-size", 2, "--batch-size", 3, "--confidence", 0.3, "--iou", 0.4)
EXPLAIN = ("explain", "a.png", "--weights", "bccd", "--beside", "deeppcb", *SIZES[2:])
EXPLAIN = (*EXPLAIN, "--output", "out")
CHECK = ("check-data", "a.json", *SIZES, *DATA[:-2])
BENCHMARK = ("benchmark", "a.onnx", "--image-size", "96x64", "--batch-size", 7, "--repeats", 5)
BENCHMARK = (*BENCHMARK, "--threads", 1, "--image", "a.png")
ALL = (TRAIN, EVALUATE, (*PREDICT, *LOCAL, *RAY), EXPORT, EXPLAIN, CHECK, BENCHMARK)
# Tested elsewhere: they choose what is done, or where a report is written.
ELSEWHERE = {
    "train": {"dataset", "backbone", "model_file", "resume"},
    "check-data": {"output"},
    "benchmark": {"output"},
}


def plain(value):
    """Returns a value without paths and enumerations."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return (
        value.value
        if isinstance(value, enum.Enum)
        else (os.fspath(value) if isinstance(value, os.PathLike) else value)
    )


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Runs a command with functions that record their arguments; the last one ends it."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a.onnx", "a.json", "b.json"):
        (tmp_path / name).touch()

    def run(words, *functions):
        found = []

        def recorder(name, result, last):
            def record(*args, **options):
                found.append((name, plain(list(args)), plain(options)))
                if last:
                    raise SystemExit(0)
                return result

            return record

        for place, (module, name, result) in enumerate(functions, 1):
            last = place == len(functions)
            monkeypatch.setattr(module, name, recorder(name, result, last))
        monkeypatch.setattr(sys, "argv", ["keras-spd", *map(str, words)])
        with pytest.raises(SystemExit) as error:
            cli.main()
        assert not error.value.code
        return found

    return run


def test_every_option_is_tested_here():
    for words in ALL:
        command = COMMANDS[words[0]]
        known = {
            option: each.name
            for each in command.params
            for option in (*each.opts, *each.secondary_opts)
        }
        given = {known[word] for word in words if word in known}
        options = {each.name for each in command.params if each.param_type_name == "option"}
        left = options - given - ELSEWHERE.get(words[0], set()) - {"verbose", "help"}
        assert not left, words[0]


def test_train(calls):
    [(_, [recipe, run], options)] = calls(TRAIN, (training, "train", None))
    assert run == "run" and options["devices"] == "all" and options["model"] is None
    expected = {
        "model": {"name": "yolov5_spd_n", "weights": "bccd", "class_map": {"a": "RBC"}},
        "data": {
            **{"train": "a.json", "test": "b.json", "validation": 0.2, "images": "photos"},
            **{"data_dir": "data", "image_size": (96, 64), "tile": (128, 96)},
            **{"tile_overlap": 0.3, "workers": 2, "on_problem": "skip"},
        },
        "loss": {"box_gain": 0.5},
    }
    for section, fields in expected.items():
        found = getattr(recipe, section).model_dump()
        assert {name: found[name] for name in fields} == fields
    assert (recipe.epochs, recipe.batch_size, recipe.seed) == (3, 5, 9)


def test_evaluate(calls):
    [(_, arguments, options)] = calls(EVALUATE, (score_files, "score_model", None))
    assert arguments == ["bccd", "a.json", "out"]
    thresholds = {"confidence_threshold": 0.02, "iou_threshold": 0.55}
    assert options == {**READ, **TILED, **thresholds, "batch_size": 7, "mirror": True}


def test_predict(calls):
    settings = TILED | {"batch_size": 7, "confidence_threshold": 0.3, "iou_threshold": 0.4}
    predictor = types.SimpleNamespace(image_size=(96, 64))
    load, write = calls(
        (*PREDICT, *LOCAL), (predict, "load_predictor", predictor), (predict, "predict_files", 0)
    )
    assert load == ("load_predictor", ["bccd"], settings)
    assert write[1] == [predictor, ["a.png"], "out"]
    del write[2]["say"]
    assert write[2] == {"webcam": 3, "pictures": False, "labels": False, "annotations": "yolo"}


def test_predict_with_ray(calls):
    found = calls(
        (*PREDICT, *RAY),
        (object_stores, "find_images", ["a.png"] * 9),
        (ray, "predict_with_ray", None),
    )
    settings = TILED | {"batch_size": 7, "confidence_threshold": 0.3, "iou_threshold": 0.4}
    settings |= {"address": "ray://head", "workers": 5}
    assert found[1] == ("predict_with_ray", ["bccd", ["a.png"] * 9, "out"], settings)


def test_export(calls, monkeypatch):
    monkeypatch.setattr(serving, "image_sides", lambda model, size: size)
    pixels = np.zeros((2, 4, 4, 3))
    load, thresholds, first, second, write = calls(
        EXPORT,
        (predict, "load_model", "model"),
        (formats, "set_thresholds", None),
        (images, "read_images", pixels),
        (formats, "export_model", None),
    )
    sizes = [(64, 64), (96, 64)]
    assert load[1] == ["bccd"] and thresholds[1] == ["model", 0.3, 0.4]
    for read, size in zip((first, second), sizes, strict=True):
        assert read == ("read_images", ["model", size, "a.json"], READ)
    assert write[1] == ["model", "a.tflite", "tflite"]
    assert write[2].pop("representative_data") is pixels
    assert write[2] == {
        **{"image_sizes": sizes, "batch_sizes": [2, 3], "quantization": "int16x8", "fold": False}
    }


def test_explain(calls):
    detector = tiny_detector()
    load, draw = calls(
        EXPLAIN, (predict, "load_models", {"a": detector}), (explain, "draw_confidence_map", None)
    )
    assert load[1] == [["bccd", "deeppcb"]]
    assert draw[1] == [{"a": detector}, "a.png"] and draw[2] == {"tile": (128, 96), "overlap": 0.3}
    assert os.path.isdir("out")


def test_check_data(calls):
    load, describe = calls(
        CHECK, (keras_spd.data, "load_detection", "data"), (check, "describe_detection", None)
    )
    assert load[1] == ["a.json"]
    assert load[2] == READ | {"max_value": "auto"}  # all problems are reported
    assert describe[1] == ["data", (96, 64), (128, 96), 0.3]


def test_benchmark(calls):
    [(_, files, options)] = calls(BENCHMARK, (keras_spd.benchmark, "measure_files", None))
    assert files == [["a.onnx"]]
    expected = {"image_size": (96, 64), "batch_size": 7, "repeats": 5, "threads": 1}
    assert options == expected | {"image": "a.png"}
