"""The command line as a user meets it."""

import json
import subprocess
import sys

import pytest


def keras_spd(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "keras_spd", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


@pytest.mark.parametrize("command", [[], ["train"], ["demo"]])
def test_help_shows_an_example(command):
    result = keras_spd(*command, "--help")
    assert result.returncode == 0
    if command:
        assert f"Example: keras-spd {command[0]}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "resnet20_spd", "--dataset", "blood_cells"], "There is no model 'resnet20_spd'"),
        (["train", "--recipe", "long"], "There is no recipe 'long'"),
        (["train", "--recipe", "demo", "--set", "epochs"], "`--set` takes FIELD=VALUE"),
        (["train", "--recipe", "demo", "--set", "epoch=3"], "Did you mean `epochs`"),
        (["train", "--resume"], "`--resume` needs the run folder"),
        (["train", "--resume", "--run", "none"], "no run to resume in none"),
    ],
)
def test_errors_are_words_and_not_tracebacks(tmp_path, arguments, message):
    result = keras_spd(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("keras-spd: ")]
    assert len(lines) == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in keras_spd(*arguments, "--verbose", cwd=tmp_path).stderr


@pytest.mark.slow
def test_train_and_resume(tmp_path):
    options = ["--recipe", "demo", "--run", "run", "--epochs", 1, "--set", "batch_size=256"]
    strided = 'model.options={"downsampling": "strided", "stem_stride": 2}'
    result = keras_spd("train", "resnet18_spd", *options, "--set", strided, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert f"Test accuracy {results['test_accuracy']:.4f}" in result.stdout
    assert results["model"] == "resnet18_strided"
    again = keras_spd("train", "resnet18_spd", *options, cwd=tmp_path)
    assert again.returncode == 1 and "already holds a run" in again.stderr
    resumed = keras_spd("train", "--resume", "--run", "run", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.slow
def test_demo(tmp_path):
    result = keras_spd("demo", "out", "--epochs", 1, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "4. TFLite beside Keras on 614 images" in result.stdout
    for name in ("model.keras", "model.tflite", "predictions.png", "results.json"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    refused = keras_spd("demo", "mine", cwd=tmp_path)
    assert refused.returncode == 1 and "is not empty and holds no demo" in refused.stderr
    assert (tmp_path / "mine" / "thesis.tex").exists()
