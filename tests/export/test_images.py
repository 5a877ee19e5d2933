"""The images that calibrate and verify an exported detector."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image

import keras_spd
from keras_spd.applications import ImageModel, ModelInfo
from keras_spd.export.images import _cut, evenly, read_detector_images, read_images


@pytest.fixture
def photos(tmp_path, rng):
    for index in range(3):
        pixels = rng.integers(0, 256, (100, 130, 3), dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    return tmp_path


def test_a_detector_of_tiles_is_calibrated_on_tiles(photos):
    """2 rows and 3 columns of tiles in each of 3 images, at their own resolution."""
    tiles = read_detector_images(str(photos), (64, 64), tile=(64, 64))
    assert tiles.shape == (18, 64, 64, 3)
    first = np.asarray(Image.open(photos / "0.png"))
    np.testing.assert_array_equal(tiles[0], first[:64, :64])
    np.testing.assert_array_equal(tiles[5], first[36:, 66:])
    assert len(read_detector_images(str(photos), (64, 64))) == 3


def test_of_many_images_other_tiles_than_the_corner(rng):
    picture = Image.fromarray(rng.integers(0, 256, (100, 130, 3), dtype="uint8"))
    tiles = [list(_cut(number, picture, (64, 64), 200)) for number in range(7)]
    assert all(len(found) == 1 for found in tiles)
    assert len({found[0].tobytes() for found in tiles[:6]}) == 6
    np.testing.assert_array_equal(tiles[6], tiles[0])


@pytest.mark.parametrize("count", [150, 200, 399, 1000])
def test_a_sample_is_evenly_spaced(count):
    found = evenly(range(count), 200)
    assert len(found) == min(count, 200) and found[0] == 0
    assert {1, -(-count // 200)} >= set(np.diff(found)) - {count // 200}
    assert found[-1] >= count - -(-count // 200)


def test_images_that_cannot_be_read(tmp_path, caplog):
    (tmp_path / "a.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(ValueError, match="No image of .* can be read"):
        read_detector_images(str(tmp_path), (64, 64), on_problem="skip")


def test_labelled_tiles_have_objects(photos):
    for index in range(3):
        (photos / f"{index}.txt").write_text("0 0.1 0.1 0.05 0.05\n")  # in the first tile only
    tiles = read_detector_images(str(photos), (64, 64), tile=(64, 64))
    data = keras_spd.data.load_detection(photos).tiles(64)
    assert len(tiles) == data.num_images < 18
    whole = [one for one in data.images if len(one.boxes)]
    assert len(whole) == 3 and all(one.corner == (0, 0) for one in whole)


@pytest.mark.slow
def test_a_model_keeps_its_tiles_when_it_is_saved(tmp_path, thin_networks):
    import keras

    model = keras_spd.applications.YOLOV5SPD("n", classes=1)
    assert model.info.tile is None
    model.info = dataclasses.replace(model.info, tile=(320, 640))
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").info.tile == (320, 640)


def test_noise_has_the_channels_of_the_model(photos):
    gray = ImageModel(
        inputs := keras.Input((16, 16, 1)),
        keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs)),
        info=ModelInfo(input_range=(0, 1)),
    )
    noise = read_images(gray, (16, 16))
    assert noise.shape == (32, 16, 16, 1) and noise.dtype == "uint8"
    with pytest.raises(ValueError, match="takes images with 1 channels. Omit it"):
        read_images(gray, (16, 16), str(photos))
