"""Timing of model files: what is measured, and what is refused. No test checks a time."""

import dataclasses
import json
import subprocess
import sys

import keras
import pytest

import keras_spd
from keras_spd.surgery import count_multiply_adds


@pytest.mark.slow
def test_files_are_timed_in_processes_of_their_own(tmp_path):
    model = keras_spd.applications.ResNet18SPD(weights=None, classes=3, input_shape=(32, 32, 3))
    model.info = dataclasses.replace(model.info, statistics="cifar10")
    model.save(tmp_path / "model.keras")
    keras_spd.export.export_tflite(model, tmp_path / "model.tflite")
    arguments = ["benchmark", "model.keras", "model.tflite", "--repeats", "3", "--output", "b.json"]
    command = [sys.executable, "-m", "keras_spd", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"{model.count_params():,} parameters, 0.266 G multiply-adds" in result.stdout
    rows = json.loads((tmp_path / "b.json").read_text())["files"]
    assert [row["format"] for row in rows] == ["keras", "tflite"]
    for row in rows:
        assert row["image_size"] == [32, 32] and row["batch_size"] == 1
        assert 0 < row["median"] <= row["p95"] and row["memory"] > 1e6
        assert row["size"] == (tmp_path / row["file"]).stat().st_size

    (tmp_path / "broken.tflite").write_bytes(b"nothing")
    command[4:] = ["model.tflite", "broken.tflite"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert "broken.tflite: " in result.stderr and "It is skipped." in result.stderr
    assert "Traceback" not in result.stderr and "model.tflite" in result.stdout


def test_multiply_adds_of_every_kind_of_convolution():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, padding="same")(inputs)
    x = keras.layers.DepthwiseConv2D(3, 2, padding="same")(x)
    x = keras.layers.SeparableConv2D(5, 3, padding="same")(x)
    x = keras_spd.layers.SPDConv(2, 1)(x)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    expected = 64 * 9 * 4 * 6 + 16 * 9 * 6 + 16 * (9 * 6 + 6 * 5) + 4 * 20 * 2 + 8 * 3
    assert count_multiply_adds(keras.Model(inputs, outputs)) == expected
