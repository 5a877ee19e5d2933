"""What all tests share."""

import os
import pathlib

import keras
import numpy as np
import pytest

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


@pytest.fixture(autouse=True)
def _same_start():
    """Fixed random numbers, Keras' defaults and no layer names left over from another test."""
    keras.utils.set_random_seed(0)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session()


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def cifar10_dir():
    """Folder with CIFAR-10 as a TFDS data set, beside the project or in KERAS_SPD_SHARED."""
    root = pathlib.Path(__file__).parents[1]
    shared = pathlib.Path(os.environ.get("KERAS_SPD_SHARED", root.parent / "shared"))
    folder = shared / "data" / "tfds"
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"needs CIFAR-10 in {folder} (or KERAS_SPD_SHARED)")
    return str(folder)
