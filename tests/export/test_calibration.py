"""Calibration images of int8 and int16x8 files: what is accepted, and batches of any size."""

import numpy as np
import pytest

from keras_spd.export.calibration import (
    calibration_batches,
    check_calibration,
    resize_calibration,
)
from keras_spd.images.preprocessing import Preprocessing


def test_batches_and_single_images_become_a_list(rng):
    batch = rng.integers(0, 256, (2, 6, 8, 3), dtype="uint8")
    images = check_calibration([batch, batch[0]], "int8")
    assert [image.shape for image in images] == [(6, 8, 3)] * 3
    assert all(image.dtype == "uint8" for image in images)
    np.testing.assert_array_equal(images[1], batch[1])
    assert len(check_calibration([(batch, np.zeros(2))], "int8")) == 2  # with labels


def test_the_range_of_the_input_is_whole(rng):
    """0 and 255 are among the values of every image, as any of them may be ignored."""
    given = rng.uniform(80, 120, (2, 12, 16, 3)).astype("float32")
    before = given.copy()
    images = check_calibration(given, "int8")
    for height, width in ((12, 16), (6, 8)):
        resized = resize_calibration(images, (height, width), Preprocessing())
        [batch] = calibration_batches(resized, (2, height, width, 3))
        assert (batch[:, 0, 0] == 0).all() and (batch[:, -1, -1] == 255).all()
        assert batch[:, 1:-1].min() >= 80 and batch[:, 1:-1].max() <= 120
    np.testing.assert_array_equal(given, before)
    assert np.min(images[0]) >= 80


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, '`quantization="int16x8"` needs `representative_data`: 30 to 100 typical images'),
        ([], r"shape \(height, width, channels\). Received: none"),
        ([np.zeros((6, 8))], r"shape \(height, width, channels\). Received: \(6, 8\)"),
        ([np.full((6, 8, 3), 0.5)], "pixels from 0 to 255. Received: values from 0.5 to 0.5"),
        ([np.full((6, 8, 3), 300.0)], "pixels from 0 to 255. Received: values from 300 to 300"),
        ([np.linspace(-9, 99, 144).reshape(6, 8, 3)], "Received: values from -9 to 99"),
    ],
)
def test_what_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        check_calibration(data, "int16x8")


def test_images_are_resized_as_the_model_does(rng):
    preprocessing = Preprocessing(input_range=(0, 255), resize="letterbox")
    images = [rng.integers(0, 256, shape, dtype="uint8") for shape in ((6, 8, 3), (12, 8, 3))]
    same, resized = resize_calibration(images, (6, 8), preprocessing)
    assert same is images[0]
    expected = preprocessing.resize_image(images[1], (6, 8))
    np.testing.assert_array_equal(resized, expected)


def test_the_last_image_fills_the_last_batch():
    images = [np.full((2, 2, 3), value, "float32") for value in range(5)]
    batches = calibration_batches(images, (2, 2, 2, 3))
    assert [batch[:, 0, 1, 0].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 4]]
    assert batches[0].dtype == "float32"


def test_images_of_another_shape_are_named():
    with pytest.raises(ValueError, match=r"of shape \(4, 4, 3\).*Received: \(2, 2, 3\)"):
        calibration_batches([np.zeros((2, 2, 3))], (1, 4, 4, 3))
