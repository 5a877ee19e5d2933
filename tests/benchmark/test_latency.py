"""Timing of model files: what is measured, and what is refused. No test checks a time."""

import json
import multiprocessing

import keras
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_classifier

from keras_spd.benchmark import latency
from keras_spd.export import export_tflite
from keras_spd.layers import SPDConv
from keras_spd.surgery import count_multiply_adds


@pytest.mark.slow
def test_files_are_timed_in_processes_of_their_own(keras_spd, tmp_path):
    """One that cannot be run is named. `tests/first_hour` has the exit code without one."""
    model = tiny_classifier(statistics="cifar10")
    model.save(tmp_path / "model.keras")
    export_tflite(model, tmp_path / "model.tflite")
    (tmp_path / "broken.tflite").write_bytes(b"nothing")
    files = ["model.keras", "model.tflite", "broken.tflite"]
    Image.new("RGB", (20, 10)).save(tmp_path / "image.png")
    options = ["--repeats", "3", "--image", "image.png", "--image-size", "24"]
    result = keras_spd("benchmark", *files, *options, "--threads", "1", "--output", "b.json")
    assert result.returncode == 1
    assert "Skipped " in result.stderr and "broken.tflite: " in result.stderr
    assert "model.tflite only takes images of 16x16, and was timed at that size" in result.stderr
    assert "Traceback" not in result.stderr and "model.tflite" in result.stdout
    assert result.stdout.splitlines()[-2] == "image.png, 1 thread."
    cost = f"{model.count_params():,} parameters, {count_multiply_adds(model) / 1e9:.3f} G"
    assert f"{cost} multiply-adds" in result.stdout
    record = json.loads((tmp_path / "b.json").read_text())
    assert record["image"] == "image.png"
    rows = record["files"]
    assert [row["format"] for row in rows] == ["keras", "tflite"]
    for row in rows:
        assert row["image_size"] == [16, 16] and row["batch_size"] == 1
        assert 0 < row["median"] <= row["p95"] and row["memory"] > 1e6
        assert row["size"] == (tmp_path / row["file"]).stat().st_size


def test_images_per_second():
    times = {"median": 0.5, "p95": 0.6}
    row = latency.Measurement("a.tflite", "tflite", 1, 4, (16, 16), **times, memory=1)
    assert row.images_per_second == 8


@pytest.mark.parametrize("name", ["batch_size", "repeats", "threads"])
def test_numbers_below_1_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer >= 1. Received: {name}=0."):
        latency.measure_files([tmp_path], **{name: 0})


def test_an_image_that_cannot_be_read_is_named_before_files_are_loaded(tmp_path):
    with pytest.raises(ValueError, match="nowhere.png: there is no such file"):
        latency.measure_files([tmp_path], image="nowhere.png")


def test_an_image_fills_the_batch():
    wide = np.full((8, 16, 3), (200, 100, 0), "uint8")
    batch = latency._make_images((2, 16, 16, 3), wide)
    assert batch.dtype == "uint8" and (batch[:, 4:12] == wide).all()  # bars above and below
    first = latency._make_images((2, 3, 16, 16), wide)
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), batch)
    with pytest.raises(ValueError, match="3 channels, as `image` has. They have 1"):
        latency._make_images((1, 16, 16, 1), wide)
    noise = latency._make_images((1, 16, 16, 1), None)
    assert noise.dtype == "uint8" and noise.min() < 10 and noise.max() > 245


def test_a_process_that_died_is_a_problem_of_its_file():
    run = latency._Run("large.keras")
    run._pipe, theirs = multiprocessing.Pipe()
    theirs.close()
    assert run.finish() is None
    assert run.problem.startswith("large.keras: its process died. It ran out of memory")


def test_multiply_adds_of_every_kind_of_convolution():
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, padding="same")(inputs)
    x = keras.layers.DepthwiseConv2D(3, 2, padding="same")(x)
    x = keras.layers.SeparableConv2D(5, 3, padding="same")(x)
    x = SPDConv(2, 1)(x)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    expected = 64 * 9 * 4 * 6 + 16 * 9 * 6 + 16 * (9 * 6 + 6 * 5) + 4 * 20 * 2 + 8 * 3
    assert count_multiply_adds(keras.Model(inputs, outputs)) == expected
