"""Training and prediction apply the same EXIF orientation."""

import keras
import numpy as np
import pytest
from labelled import as_shown, write_coco, write_voc, write_yolo
from PIL import Image

from keras_spd.applications import YOLOV5SPD
from keras_spd.data import load_detection
from keras_spd.images.read import image_sizes, read_image
from keras_spd.predict import Predictor

# Height, width and orientation; annotations fit the image as shown, or as its pixels are stored.
CASES = [(size, turn) for size in ((16, 16), (16, 24)) for turn in range(1, 9)]


def write_image(folder, size, orientation):
    """Writes a picture that every rotation changes, and returns its pixels as stored."""
    folder.mkdir(parents=True)
    stored = np.arange(size[0] * size[1] * 3).reshape(*size, 3) % 251
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored.astype("uint8")).save(folder / "a.png", exif=exif)
    return stored


@pytest.mark.parametrize(("size", "orientation"), CASES)
@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_readers_turn_images_as_prediction_does(write, size, orientation, tmp_path):
    shown = as_shown(write_image(tmp_path / "images", size, orientation), orientation)
    data = load_detection(write(tmp_path, shown.shape[:2]), images=tmp_path / "images")
    [image] = data.images
    np.testing.assert_array_equal(image.read(), shown)
    np.testing.assert_allclose(image.boxes, [[1, 2, 6, 8]], atol=1e-4)
    np.testing.assert_array_equal(read_image(image.source), shown)


@pytest.mark.slow
def test_predictor_sees_the_image_as_shown(tmp_path):
    keras.utils.set_random_seed(0)
    model = YOLOV5SPD((0.33, 0.125), classes=2)
    predictor = Predictor(model, 32, confidence_threshold=0.0, multi_label=True)
    files, arrays, stored = [], [], []
    for number, (size, orientation) in enumerate(CASES):
        stored.append(write_image(tmp_path / str(number), size, orientation).astype("uint8"))
        files.append(tmp_path / str(number) / "a.png")
        arrays.append(as_shown(stored[-1], orientation))
    opened = [Image.open(file) for file in files]
    all_found = zip(predictor(files), predictor(arrays), predictor(opened), strict=True)
    for found, expected, by_pillow in all_found:
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(by_pillow.boxes, expected.boxes)
    turned, unturned = predictor([arrays[2], stored[2]])
    assert not np.array_equal(turned.confidence, unturned.confidence)  # the network can tell


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("write", [write_coco, write_voc])
def test_annotations_made_on_stored_pixels(write, orientation, tmp_path):
    stored = write_image(tmp_path / "images", (16, 24), orientation)
    assert image_sizes(tmp_path / "images" / "a.png") == ((24, 16), (16, 24))
    [image] = load_detection(write(tmp_path, (16, 24)), images=tmp_path / "images").images
    assert image.size_hw == (16, 24)
    np.testing.assert_array_equal(image.read(), stored)
