"""Fixtures and helpers for all tests."""

import gc
import itertools
import logging
import os
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
from PIL import Image

# As `import keras_spd` sets it, which comes too late in tests that import Keras first.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Tests serve files and pages on this machine, which no proxy reaches.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

FIXTURES = pathlib.Path(__file__).parent / "fixtures"

# Longest first. The last of the other files are short, so no worker waits for another.
LONGEST = [
    "first_hour/test_first_hour",
    "training/test_distribution",
    "cli/test_main",
    "test_docs",
    "test_backends",
    "training/test_fit",
    "test_examples",
    "weights/test_transfer",
    "apps/test_ray",
    "applications/test_yolov5",
    "export/test_detector",
    "training/test_given",
    "detection/test_heads",
    "cli/test_quiet",
    "training/test_start",
    "weights/test_presets",
    "predict/test_predict",
    "training/test_detection",
    "test_saving",
    "weights/test_loading",
    "weights/test_checkpoints",
    "weights/test_damaged_files",
    "weights/test_torch_file",
    "training/test_validation",
]

# Keras, which takes seconds to import, is not needed in the process that hands out the tests.


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run the tests marked `full` as well")


def pytest_collection_modifyitems(config, items):
    folder = pathlib.Path(__file__).parent
    order = {folder / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))
    if not config.getoption("--full"):
        left = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in set(left)]
        config.hook.pytest_deselected(items=left)


def pytest_collection_finish():
    """Freezes the objects that imports created, so that the garbage collector skips them.

    With TensorFlow's objects, a collection takes half a second.
    """
    gc.collect()
    gc.freeze()


_COLLECT_AT = 300 * 2**20  # bytes by which the process may grow between two collections
_tests, _size = itertools.count(1), 0
_MOST_PIXELS = Image.MAX_IMAGE_PIXELS


@pytest.fixture(autouse=True, scope="module")
def _same_start_of_modules():
    """Fixtures of a module start with the same seed, whatever ran before in this process."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _same_start():
    """Each test starts with the same seed, Keras' defaults and no layer names of other tests."""
    global _size
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    levels = _levels()
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    for name, level in (_levels() | levels).items():  # commands show what others only log
        logging.getLogger(name).setLevel(level if name in levels else logging.NOTSET)
    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS  # commands with tiles read larger images
    if keras.backend.backend() == "tensorflow":
        _forget_gradients()
    # A collection takes 0.3 s, most tests less. Some leave large models.
    collect = _resident_bytes() > _size + _COLLECT_AT or next(_tests) % 100 == 0
    keras.utils.clear_session(free_memory=collect)
    if collect:
        _size = _resident_bytes()


def _levels():
    """Returns the levels of this library's loggers."""
    known = logging.root.manager.loggerDict.items()
    return {
        name: logger.level
        for name, logger in known
        if name.startswith("keras_spd") and isinstance(logger, logging.Logger)
    }


def _resident_bytes():
    statm = pathlib.Path("/proc/self/statm")  # of Linux
    return int(statm.read_text().split()[1]) * 4096 if statm.is_file() else 0


def _forget_gradients():
    """Drops the custom gradients that traced functions have registered.

    TensorFlow never drops them, and they hold the graph and weights of each model with a SiLU or a
    loss: 85 MB for each ResNet18 that has predicted.
    """
    from tensorflow.python.framework.ops import gradient_registry

    registered = gradient_registry._registry
    for name in [name for name in registered if name.startswith("CustomGradient-")]:
        del registered[name]


_graphs = False  # whether `fit`, `predict` and `evaluate` of the running test trace graphs


@pytest.fixture(scope="session", autouse=True)
def _eager_steps():
    """Keras runs its steps eagerly, except with the fixture `graphs`.

    Tracing a step of a thin detector takes as long as ten eager steps, and most tests take fewer.
    """
    import keras

    with pytest.MonkeyPatch.context() as patch:
        for kind in ("train", "test", "predict"):
            name = f"make_{kind}_function"
            patch.setattr(keras.Model, name, _eager_unless_graphs(getattr(keras.Model, name)))
        if keras.backend.backend() == "tensorflow":
            _leave_graphs_as_traced()
        yield


def _eager_unless_graphs(make):
    def make_function(self, force=False):
        former = self.run_eagerly
        self.run_eagerly = former or not _graphs
        try:
            return make(self, force)
        finally:
            self.run_eagerly = former

    return make_function


def _leave_graphs_as_traced():
    """Grappler rewrites each graph once it is traced: a quarter of the time of a first step."""
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture
def graphs():
    """Keras traces its steps, as outside of tests: for long trainings and tests of graphs."""
    global _graphs
    _graphs = True
    yield
    _graphs = False


@pytest.fixture
def thin_networks():
    """ResNets and YOLOv5-n with few channels, which train in seconds."""
    from thin import make_thin

    with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo `monkeypatch`
        make_thin(patch)
        yield


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


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pages need Playwright")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("pages are opened in Chromium: `apt install chromium`")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def find_shared(path):
    """Returns a path in `shared/` beside the project or in KERAS_SPD_SHARED.

    Skips if it is missing, unless the variable is set.
    """
    named = os.environ.get("KERAS_SPD_SHARED")
    found = pathlib.Path(named or pathlib.Path(__file__).parents[2] / "shared") / path
    assert found.exists() or not named, f"KERAS_SPD_SHARED has no {path}"
    if not found.exists():
        pytest.skip(f"needs {found} (or KERAS_SPD_SHARED)")
    return found


@pytest.fixture(scope="session")
def cifar10_dir():
    """Folder with CIFAR-10 as a TFDS dataset."""
    return str(find_shared("data/tfds/cifar10").parent)
