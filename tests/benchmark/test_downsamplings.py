"""The other ways to downsample, which benchmarks/small_objects.py compares with SPD-Conv."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest

from keras_spd.applications import YOLOV5SPD
from keras_spd.surgery import count_multiply_adds

PATH = pathlib.Path(__file__).parents[2] / "benchmarks/downsamplings.py"


@pytest.fixture(scope="module")
def downsamplings():
    spec = importlib.util.spec_from_file_location("downsamplings", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_detector_keeps_its_weights_and_saves(downsamplings, thin_networks, rng, tmp_path):
    """The wavelet is exact; the others run the same convolutions at every pixel.

    In thin networks, more of the cost is in convolutions that downsample.
    """
    detector = YOLOV5SPD("n", classes=2, downsampling="strided", input_shape=(64, 64, 3))
    detector.set_weights([rng.normal(0, 0.2, w.shape) ** 2 + 0.01 for w in detector.get_weights()])
    images = rng.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    expected, cost = detector(images), count_multiply_adds(detector)
    exact = downsamplings.haar(detector)
    for level, raw in exact(images).items():
        np.testing.assert_allclose(raw, expected[level], rtol=1e-3, atol=1e-3)
    assert cost < count_multiply_adds(exact) < 1.5 * cost
    for change in (downsamplings.blur_pool, downsamplings.max_pool):
        changed = change(detector)
        assert changed.count_params() == detector.count_params()
        assert 1.5 * cost < count_multiply_adds(changed) < 4 * cost
        changed.save(tmp_path / "changed.keras")
        loaded = keras.saving.load_model(tmp_path / "changed.keras")
        np.testing.assert_allclose(loaded(images)["P4"], changed(images)["P4"], rtol=1e-5)


def test_haar_is_orthogonal(downsamplings):
    np.testing.assert_allclose(downsamplings.HAAR @ downsamplings.HAAR.T, np.eye(4))
