"""What the command line and `import keras_spd` import: Keras only if it is needed."""

import json
import subprocess
import sys

import pytest

LINES = {
    "--help": 0,
    "--version": 0,
    "list": 0,
    "train --help": 0,
    "predict --nonsense": 2,
    "predict --weights bccd": 1,
    "predict image.jpg --weights nowhere.keras": 1,
    "predict image.jpg --weights bccd --image-size big": 1,
    "predict image.jpg --weights bccd --overlap 0.1": 1,
    "predict image.jpg --weights bccd --workers 2": 1,
    "export nowhere.keras": 1,
    "export bccd --quantize int8": 1,
    "evaluate data.json --weights nowhere.keras": 1,
    "evaluate data.json --weights bccd --overlap 0.1": 1,
    "benchmark nowhere.tflite": 1,
    "convert nowhere.pt out.keras": 1,
    "convert weights.pt out.h5": 1,
    "check-data data.json --image-size big": 1,
    "check-data data.json --overlap 0.1": 1,
    "explain image.jpg --weights nowhere.keras": 1,
    "demo --port 7000": 1,
}
COMMANDS = """
import contextlib, importlib, io, json, logging, sys, traceback
sys.argv = ["keras-spd"]
from keras_spd.cli import main
def loaded():
    return sorted({"keras", "tensorflow", "torch", "jax"} & set(sys.modules))
for line in json.load(sys.stdin):
    sys.argv, code = ["keras-spd", *line.split()], 0
    logging.getLogger().handlers.clear()  # the last command's, which writes to its stderr
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        except Exception:
            code = traceback.print_exc()
    print(json.dumps([line, code, out.getvalue(), err.getvalue(), loaded()]))
for name in ("benchmark.latency", "export.onnx_runtime", "export.tflite_runtime"):
    importlib.import_module("keras_spd." + name)
    print(json.dumps([name, loaded()]))
"""


@pytest.fixture(scope="module")
def answers():
    """The answer to each line. All run in one process, since none may import Keras."""
    result = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps(list(LINES)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stderr == ""
    return {line: answer for line, *answer in map(json.loads, result.stdout.splitlines())}


@pytest.mark.parametrize("line", LINES)
def test_answers_without_keras(answers, line):
    code, _, error, loaded = answers[line]
    assert code == LINES[line], error
    assert loaded == []
    if code:
        assert "Traceback" not in error
    if code == 1:
        assert len(error.splitlines()) == 1, error


@pytest.mark.parametrize(
    "module", ["benchmark.latency", "export.onnx_runtime", "export.tflite_runtime"]
)
def test_exported_files_are_run_and_timed_without_keras(answers, module):
    """`keras-spd benchmark` would count it as their memory."""
    assert answers[module] == [[]]


def test_list_names_all(answers):
    _, shown, _, _ = answers["list"]
    for name in ("resnet18_spd", "yolov5_spd_n", "short_detection", "bccd", "cifar10"):
        assert name in shown


def test_public_names_are_listed_and_unknown_ones_refused():
    import keras_spd

    assert {"Predictor", "applications", "fold", "training"} <= set(dir(keras_spd))
    for name in dir(keras_spd):
        getattr(keras_spd, name)
    assert callable(keras_spd.fold) and callable(keras_spd.to_spd)
    with pytest.raises(AttributeError, match="no attribute 'Predictors'"):
        keras_spd.Predictors  # noqa: B018
