"""Fixtures and helpers for all tests."""

import gc
import logging
import os
import pathlib
import sys
import types

import keras
import numpy as np
import pytest
from thin import make_thin

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def pytest_collection_finish():
    """Freezes the objects that imports created, so that the garbage collector skips them.

    `clear_session` collects garbage after each test, which takes half a second with TensorFlow's
    objects.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_start():
    """Each test starts with the same seed, Keras' defaults and no layer names of other tests."""
    keras.utils.set_random_seed(0)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    _forget_gradients()
    keras.utils.clear_session()


def _forget_gradients():
    """Drops the custom gradients that traced functions have registered.

    TensorFlow never drops them, and they hold the graph and weights of each model with a SiLU or a
    loss: 85 MB for each ResNet18 that has predicted.
    """
    if keras.backend.backend() == "tensorflow":
        from tensorflow.python.framework.ops import gradient_registry

        registered = gradient_registry._registry
        for name in [name for name in registered if name.startswith("CustomGradient-")]:
            del registered[name]


@pytest.fixture
def thin_networks():
    """ResNets and YOLOv5-n with few channels, which train in seconds."""
    with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo `monkeypatch`
        make_thin(patch)
        yield


@pytest.fixture
def eager_training(monkeypatch):
    """Runs training steps eagerly. Predictions still run in graphs.

    Tracing the step of a thin detector takes ten seconds, as long as ten eager steps. Use it in
    tests of a few steps that are not about the graph.
    """
    make = keras.Model.make_train_function

    def make_eagerly(self, force=False):
        former, self.run_eagerly = self.run_eagerly, True
        train_function = make(self, force)
        self.run_eagerly = former
        return train_function

    monkeypatch.setattr(keras.Model, "make_train_function", make_eagerly)


@pytest.fixture
def keras_spd(monkeypatch, capfd, tmp_path):
    """Runs `keras-spd` in this process and an empty folder; returns exit code and both streams.

    A new process takes five seconds to import TensorFlow, so only tests that need one (signals,
    native log lines, imports) start it.
    """
    from keras_spd.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["keras-spd", *map(str, arguments)])
        root = logging.getLogger()
        handlers, root.handlers = root.handlers, []  # or the command would not add its own
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        finally:
            root.handlers = handlers
        out, err = capfd.readouterr()
        return types.SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def find_shared(path):
    """Returns a path in `shared/` beside the project or in KERAS_SPD_SHARED; skips if missing."""
    root = pathlib.Path(__file__).parents[1]
    found = pathlib.Path(os.environ.get("KERAS_SPD_SHARED", root.parent / "shared")) / path
    if not found.exists():
        pytest.skip(f"needs {found} (or KERAS_SPD_SHARED)")
    return found


@pytest.fixture(scope="session")
def cifar10_dir():
    """Folder with CIFAR-10 as a TFDS dataset."""
    return str(find_shared("data/tfds/cifar10").parent)
