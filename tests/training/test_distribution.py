"""Several devices and several workers compute what one device computes."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import types

import h5py
import keras
import numpy as np
import pytest
import reference
import run_training
from drawings import write_drawings
from thin import make_thin
from tiny import tiny_classifier

from keras_spd.training.distribution import Distribution, distribute
from keras_spd.training.run_folder import RunFolder

# Only order and initial weights are random, and steps are so small that noise stays noise.
STILL = [
    "augmentation.horizontal_flip=false",
    "augmentation.vertical_flip=false",
    "optimizer.learning_rate=0.0002",
]


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return write_drawings(tmp_path_factory.mktemp("drawings"), 16)


def start(task, folder, *options, **environment):
    return subprocess.Popen(
        [sys.executable, run_training.__file__, task, folder, *options],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    outputs = [process.communicate(timeout=600)[0][-3000:] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(outputs), "\n".join(outputs)


def settings(task):
    return STILL + (["augmentation.crop_padding=0"] if task == "classifier" else [])


def options(task, drawings, *more, epochs=2):
    data_ = ["--data", drawings] if task == "detector" else []
    return [*data_, *more, "--set", *settings(task), f"epochs={epochs}"]


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, drawings):
    """The run folder of a detector trained on one device."""
    folder = tmp_path_factory.mktemp("detector")
    with pytest.MonkeyPatch.context() as patch:
        make_thin(patch)
        run_training.run("detector", folder, data=drawings, settings=[*STILL, "epochs=2"])
    return folder


def assert_same_curve(folder, other):
    rows, expected = (RunFolder(one).read_log() for one in (folder, other))
    assert expected
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=2e-3, abs=1e-5)


def momentum(folder):
    with h5py.File(folder / "state.weights.h5") as file:
        values = [np.array(value) for value in file["optimizer/vars"].values()]
    return np.concatenate([value.ravel() for value in values if value.ndim])


def assert_same_gradients(folder, other):
    """Losses hardly show them, as the steps are small; the optimizer's momentum is their sum."""
    ours, theirs = momentum(folder), momentum(other)
    assert reference.relative_norm(ours - theirs, theirs) < 0.05  # half of them would be 0.5


@pytest.mark.slow
def test_two_devices(tmp_path, drawings, one_device):
    more = ("--devices", "all", "--cpus", "2")
    finish(start("detector", tmp_path, *options("detector", drawings, *more)))
    assert_same_curve(tmp_path, one_device)
    assert_same_gradients(tmp_path, one_device)


TWO_DEVICES = """
import keras, numpy as np, tensorflow as tf
from keras_spd.training.distribution import distribute
[cpu] = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
distribution = distribute("all")
"""


def run_on_two_devices(code):
    """Returns what a program prints that has a `distribution` over two devices."""
    command = [sys.executable, "-c", TWO_DEVICES + textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_gradients_of_all_devices_are_clipped_together():
    """The shares of two devices are 9 and 1. Clipped to 1 each, they would move a weight by 2."""
    code = """
        with distribution.scope():
            dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
            model = keras.Sequential([keras.Input((1,)), dense])
            model.compile(keras.optimizers.SGD(0.5, global_clipnorm=1), "mse")
        batch = np.array([[3.0], [1.0]]), np.zeros((2, 1))
        for fit in range(2):  # each `fit` of a run is prepared
            distribution.prepare(model, [batch])
            model.fit(*batch, batch_size=2, verbose=0)
            print(distribution.replicas, float(dense.kernel[0, 0]))
    """
    printed = run_on_two_devices(code)
    assert printed.split() == ["2", "0.5", "2", "0.0"]


@pytest.mark.slow
def test_a_step_is_skipped_if_a_gradient_of_any_device_overflows():
    """In float16. The second device gets the largest number."""
    code = """
        keras.config.set_dtype_policy("mixed_float16")
        with distribution.scope():
            dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
            model = keras.Sequential([keras.Input((1,)), dense])
            sgd = keras.optimizers.SGD(0.5)
            optimizer = keras.optimizers.LossScaleOptimizer(sgd, initial_scale=64)
            model.compile(optimizer, "mse")
        for second in (60_000.0, 0.5, 60_000.0, 0.5):
            batch = np.array([[1.0], [second]]), np.zeros((2, 1))
            distribution.prepare(model, [batch])  # as each `fit` of a run
            model.fit(*batch, batch_size=2, shuffle=False, verbose=0)
            scales = [float(each) for each in optimizer.dynamic_scale.value.values]
            print(float(dense.kernel[0, 0]), *scales)
    """
    printed = run_on_two_devices(code)
    assert printed.splitlines() == [
        "1.0 32.0 32.0",
        "0.375 32.0 32.0",
        "0.375 16.0 16.0",
        "0.140625 16.0 16.0",
    ]


@pytest.mark.slow
def test_two_jax_devices(tmp_path):
    # The second one compiles in half the time.
    jax = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    more = ("--devices", "all", "--cpus", "2", "--one-device", tmp_path / "one")
    finish(start("classifier", tmp_path / "two", *options("classifier", None, *more), **jax))
    assert_same_curve(tmp_path / "two", tmp_path / "one")
    assert_same_gradients(tmp_path / "two", tmp_path / "one")


def workers(task, folder, *arguments):
    """Starts two workers on ports that were free a moment ago."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("localhost", 0))
        addresses = [f"localhost:{each.getsockname()[1]}" for each in (first, second)]
    return [
        start(
            task,
            folder,
            *arguments,
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classifier", pytest.param("detector", marks=pytest.mark.full)])
def test_two_workers_one_is_killed_and_the_job_resumes(task, tmp_path, drawings, thin_networks):
    epochs, model = 8, None
    expected, folder = tmp_path / "one", tmp_path / "two"
    if task == "classifier":
        model = str(tmp_path / "tiny.keras")
        tiny_classifier().save(model)
    several = {"settings": [*settings(task), f"epochs={epochs}"], "model": model}
    run_training.run(task, expected, data=drawings, **several)
    given = ["--model", model] if model else []
    arguments = options(task, drawings, *given, epochs=epochs)
    chief, other = workers(task, folder, *arguments)
    deadline = time.monotonic() + 500
    while not (folder / "state.weights.h5").is_file() and chief.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    output, _ = chief.communicate(timeout=600)
    assert chief.returncode, "the job ended before it was killed"
    assert "Resume with: keras-spd train --resume" in output, output[-3000:]
    arguments.insert(arguments.index("--set"), "--resume")
    finish(*workers(task, folder, *arguments))
    assert_same_curve(folder, expected)
    assert_same_gradients(folder, expected)
    results = json.loads((folder / "results.json").read_text())
    assert results["test_images"] == (16 if task == "detector" else 9)


@pytest.mark.parametrize("devices", [None, "all"])
def test_a_step_is_traced_once(devices, graphs):
    """A trace that creates variables would be followed by a second one, which takes as long."""
    distribution = distribute(devices)
    with distribution.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    step, traced = model.train_step, []
    model.train_step = lambda data: (traced.append(data), step(data))[1]
    batch = np.ones((2, 4)), np.ones((2, 3))
    distribution.prepare(model, [batch])
    model.fit(*batch, verbose=0)
    assert len(traced) == 1


def test_a_batch_must_be_a_multiple_of_the_devices():
    with pytest.raises(ValueError, match=r"multiple of their number, 3.*batch_size=8"):
        Distribution(replicas=3).check_batch_size(8)
    Distribution(replicas=3).check_images(8, 6)
    with pytest.raises(ValueError, match=r"all 8 images, which 3 devices.*at most 6"):
        Distribution(replicas=3).check_images(8, 9)


@pytest.mark.parametrize("config", ["{", "{}", '{"cluster": {"worker": ["a", "b"]}, "task": {}}'])
def test_a_bad_tf_config_is_named(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="TF_CONFIG must be like"):
        distribute("all")


def test_workers_connect_before_anything_is_computed(monkeypatch):
    keras.ops.zeros(1)
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}})
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="must connect before .* the path of a saved model"):
        distribute()


def test_workers_of_a_given_strategy(monkeypatch):
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    for index in (1, "1"):  # TensorFlow accepts both
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        monkeypatch.setenv("TF_CONFIG", config)
        found = distribute(types.SimpleNamespace(num_replicas_in_sync=4))
        assert (found.replicas, found.worker, found.workers, found.is_chief) == (4, 1, 2, False)


def test_bad_devices():
    with pytest.raises(ValueError, match='`devices` must be "all".*Received: devices=2'):
        distribute(2)
