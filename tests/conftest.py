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
    """Takes what the imports made out of the garbage collector's sight.

    `clear_session` collects after each test, and half a second of that is looking at TensorFlow.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _same_start():
    """Fixed random numbers, Keras' defaults and no layer names left over from another test."""
    keras.utils.set_random_seed(0)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    _forget_gradients()
    keras.utils.clear_session()


def _forget_gradients():
    """Drops the gradients that traced functions have registered under names of their own.

    TensorFlow keeps them for ever, and with them the graph and the weights of each model with a
    SiLU or a loss: 85 MB for each ResNet18 that has predicted.
    """
    if keras.backend.backend() == "tensorflow":
        from tensorflow.python.framework.ops import gradient_registry

        registered = gradient_registry._registry
        for name in [name for name in registered if name.startswith("CustomGradient-")]:
            del registered[name]


@pytest.fixture
def thin_networks():
    """ResNets, and size n of YOLOv5, with few channels: training them takes seconds."""
    with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo `monkeypatch`
        make_thin(patch)
        yield


@pytest.fixture
def eager_training(monkeypatch):
    """Training steps run eagerly; predictions are in graphs, as always.

    Tracing the step of a thin detector takes ten seconds, as long as ten eager steps. For tests of
    a few steps that are not about the graph.
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
    """Runs `keras-spd` in this process and an empty folder: exit code and both streams.

    A process of its own takes five seconds to import TensorFlow, so only tests of what belongs to
    a process (signals, native log lines, what is imported) start one.
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
    """Returns a path in the folder `shared` beside the project or in KERAS_SPD_SHARED, or skips."""
    root = pathlib.Path(__file__).parents[1]
    found = pathlib.Path(os.environ.get("KERAS_SPD_SHARED", root.parent / "shared")) / path
    if not found.exists():
        pytest.skip(f"needs {found} (or KERAS_SPD_SHARED)")
    return found


@pytest.fixture(scope="session")
def cifar10_dir():
    """Folder with CIFAR-10 as a TFDS dataset."""
    return str(find_shared("data/tfds/cifar10").parent)
