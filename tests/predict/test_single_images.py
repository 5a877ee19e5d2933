"""Single images of any kind and lists of them, with `Predictor` and `Classifier`."""

import io

import keras
import numpy as np
import pytest
from bright import BrightBox
from PIL import Image

import keras_spd
from keras_spd import predict
from keras_spd.applications import ImageModel, ModelInfo
from keras_spd.images.batching import BatchSizes

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")


@pytest.fixture(scope="module")
def bright():
    """Pixels of shape `(64, 96)`: a bright box on black."""
    pixels = np.zeros((64, 96), "uint8")
    pixels[20:40, 10:30] = 255
    return pixels


@pytest.fixture(scope="module")
def classifier():
    keras.utils.set_random_seed(2)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x))
    return predict.Classifier(ImageModel(inputs, x, info=ModelInfo(input_range=(0, 1))))


def test_classifications_are_saved(bright, classifier, tmp_path):
    [found] = classifier(bright)
    found.save(tmp_path / "found.png")
    with Image.open(tmp_path / "found.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(found.plot()))


def test_single_images_after_a_batch_are_not_padded_for_ever(classifier):
    """A batch size is compiled once padding has cost as much."""
    sizes = BatchSizes(classifier.model)
    images = np.zeros((16, 2, 2, 3), "uint8")
    assert len(sizes.fill(images)) == 16
    assert [len(sizes.fill(images[:1])) for _ in range(6)] == [16, 16, 16, 16, 1, 1]
    assert [len(sizes.fill(images[:count])) for count in (3, 5, 9, 16)] == [4, 8, 16, 16]
    assert sizes.seen == {1, 4, 8, 16}


def in_mode(pixels, mode):
    if mode == "I;16":
        return Image.fromarray(pixels.astype("uint16") * 257)
    image = Image.fromarray(pixels)
    return image if mode == "L" else image.convert("RGB").convert(mode)


def encoded(image):
    file = io.BytesIO()
    image.save(file, "TIFF")
    return file.getvalue()


def boxes(found):
    return found.boxes.round().tolist()


@pytest.mark.parametrize("mode", MODES)
def test_images_of_every_mode(mode, bright, classifier):
    image = in_mode(bright, mode)
    [box] = keras_spd.Predictor(BrightBox(), 64)(image)
    np.testing.assert_allclose(box.boxes, [[10, 20, 30, 40]], atol=2)
    rgb = image.convert("RGB") if mode != "I;16" else Image.fromarray(bright).convert("RGB")
    [found], [expected] = classifier(image), classifier([np.asarray(rgb)])
    assert found.classes.tolist() == expected.classes.tolist()
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)


@pytest.mark.parametrize("tile", [None, 64])
def test_one_image_is_a_list_of_one(tile, bright, classifier, tmp_path):
    path = tmp_path / "bright.png"
    Image.fromarray(bright).save(path)
    rgb = np.repeat(bright[..., None], 3, axis=2)
    rgba = np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=2)
    predictor = keras_spd.Predictor(BrightBox(), 64, tile=tile)
    [box], [label] = predictor([path]), classifier([path])
    same = (path, str(path), path.read_bytes(), encoded(Image.open(path)), Image.open(path))
    arrays = (bright, bright[..., None], rgb, rgba, rgb[None], bright.astype("uint16") * 257)
    for image in (*same, *arrays):
        assert [boxes(found) for found in predictor(image)] == [boxes(box)]
        [found] = classifier(image)
        assert found.classes.tolist() == label.classes.tolist()
        np.testing.assert_allclose(found.confidence, label.confidence, atol=1e-6)
    assert len(predictor(path for _ in range(3))) == 3
    assert predictor([]) == [] == classifier([])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("cat.jpg", "cat.jpg: there is no such file"),
        (b"cat", "image: cannot be read as an image"),
        (np.zeros((5, 5, 2), "uint8"), "array of shape"),
        (np.zeros((5, 5, 3)), "float64 array"),
        (np.zeros((1, 5, 5, 2), "uint8"), "array of shape"),
        ("/dev/zero", "/dev/zero: is a folder, a pipe or a device"),
        ("a\0b", "cannot be the name of a file"),
        (None, "must be an image or an iterable of images"),
        ({"image": "cat.jpg"}, "Received: dict"),
        ([3], "Received: int"),
    ],
)
def test_files_that_are_not_images(image, message, classifier):
    for run in (keras_spd.Predictor(BrightBox(), 64), classifier):
        with pytest.raises(ValueError, match=message):
            run(image)
