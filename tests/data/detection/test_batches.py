"""Boxes follow the pixels, and batches are pure functions of seed, epoch and index."""

import colorsys
import gc
import weakref

import keras
import numpy as np
import pytest
from PIL import Image

from keras_spd.data import (
    BoxedImage,
    DetectionAugmentation,
    DetectionBatches,
    DetectionData,
    letterbox,
    to_dense,
)
from keras_spd.data.detection.augmentation import jitter_hsv

SIZE = (96, 128)
AUGMENTATIONS = {
    "none": None,
    "zoom": DetectionAugmentation(scale=0.5, translate=0.2),
    "flips": DetectionAugmentation(horizontal_flip=1.0, vertical_flip=1.0),
    "mosaic": DetectionAugmentation(mosaic=1.0, scale=0.5, translate=0.1, horizontal_flip=0.5),
}


@pytest.fixture
def data(tmp_path):
    """Images with one white rectangle each, on black."""
    rng = np.random.default_rng(1)
    images = []
    for number in range(6):
        height, width = (int(side) for side in rng.integers(80, 200, 2))
        x1, y1 = int(rng.integers(5, width - 50)), int(rng.integers(5, height - 50))
        x2, y2 = x1 + int(rng.integers(20, 45)), y1 + int(rng.integers(20, 45))
        pixels = np.zeros((height, width, 3), "uint8")
        pixels[y1:y2, x1:x2] = 255
        file = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(file)
        images.append(
            BoxedImage(
                image_id=number,
                name=str(file),
                source=file,
                size_hw=(height, width),
                boxes=np.array([[x1, y1, x2, y2]], "float32"),
                classes=np.array([number % 2]),
                crowd=np.zeros(1, bool),
            )
        )
    return DetectionData(tuple(images), ("even", "odd"), (1, 2))


def check_boxes_cover_the_white(images, boxes, classes):
    """Each box must span a white region of the picture, to a pixel."""
    checked = 0
    for pixels, image_boxes, labels in zip(images, boxes, classes, strict=True):
        assert pixels.shape == (*SIZE, 3)
        white = pixels[..., 0] > 180
        for x1, y1, x2, y2 in image_boxes[labels >= 0]:
            columns = slice(max(int(x1) - 2, 0), int(np.ceil(x2)) + 2)
            rows = slice(max(int(y1) - 2, 0), int(np.ceil(y2)) + 2)
            ys, xs = np.nonzero(white[rows, columns])
            found = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], "float32")
            found += [columns.start, rows.start, columns.start, rows.start]
            np.testing.assert_allclose(found, [x1, y1, x2, y2], atol=1.1)
            checked += 1
        outside = white.copy()
        for x1, y1, x2, y2 in image_boxes[labels >= 0]:
            outside[max(int(y1) - 1, 0) : int(y2) + 2, max(int(x1) - 1, 0) : int(x2) + 2] = False
        # Only slivers may lose their boxes: a tenth of a rectangle.
        assert outside.sum() < 0.1 * (45 * 1.8) ** 2
    return checked


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_boxes_follow_the_pixels(name, data):
    checked = 0
    for seed in range(8):
        batches = DetectionBatches(
            data, 6, SIZE, shuffle=True, augmentation=AUGMENTATIONS[name], seed=seed
        )
        checked += check_boxes_cover_the_white(*batches.load(0, 0))
    assert checked > 30


@pytest.fixture
def coloured(tmp_path):
    """Images of one colour each, with a box in the middle."""
    images = []
    for number in range(8):
        file = tmp_path / f"{number}.png"
        Image.new("RGB", (128, 96), (30 * number, 255 - 30 * number, 200)).save(file)
        boxes, one = np.array([[54, 38, 74, 58]], "float32"), np.zeros(1)
        images.append(
            BoxedImage(number, str(file), file, SIZE, boxes, one.astype(int), one.astype(bool))
        )
    return DetectionData(tuple(images), ("thing",), (1,))


def load(data, augmentation, epochs=8):
    """Returns images and first boxes of several epochs, which are all there."""
    made = DetectionBatches(data, 8, SIZE, augmentation=augmentation)
    loaded = [made.load(epoch, 0) for epoch in range(epochs)]
    return np.concatenate([one[0] for one in loaded]), np.concatenate([o[1][:, 0] for o in loaded])


def test_flips_mirror_about_half_of_the_images(data):
    plain, _, _ = DetectionBatches(data, 6, SIZE, augmentation=DetectionAugmentation()).load(0, 0)
    both, _, _ = DetectionBatches(data, 6, SIZE, augmentation=AUGMENTATIONS["flips"]).load(0, 0)
    np.testing.assert_array_equal(both, plain[:, ::-1, ::-1])
    half = DetectionAugmentation(horizontal_flip=0.5)
    made = DetectionBatches(data, 6, SIZE, augmentation=half)
    mirrored = [
        (image == known[:, ::-1]).all()
        for epoch in range(10)
        for image, known in zip(made.load(epoch, 0)[0], plain, strict=True)
    ]
    assert 20 <= sum(mirrored) <= 40


def test_a_mosaic_shows_four_images(coloured):
    images, _ = load(coloured, DetectionAugmentation(mosaic=1.0))
    colours = [len(Image.fromarray(image).getcolors()) for image in images]
    assert max(colours) == 4 and np.mean(colours) > 3  # two of the four may be the same image
    own = [
        (image.reshape(-1, 3) == (30 * (number % 8), 255 - 30 * (number % 8), 200)).all(1).any()
        for number, image in enumerate(images)
    ]
    assert np.mean(own) > 0.9  # the image itself is among them, unless it is out of view


def test_zooms_and_shifts_have_their_range(coloured):
    _, boxes = load(coloured, DetectionAugmentation(scale=0.5))
    for side in (boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]):
        zooms = side / 20
        assert 0.45 < zooms.min() < 0.65 and 1.35 < zooms.max() < 1.55
    _, boxes = load(coloured, DetectionAugmentation(translate=0.2))
    shifts = (boxes[:, :2] + boxes[:, 2:]) / 2 - [64, 48]
    most = np.array([0.2 * 128, 0.2 * 96])
    assert (np.abs(shifts) < most + 1).all()
    assert (shifts.min(axis=0) < -0.7 * most).all() and (shifts.max(axis=0) > 0.7 * most).all()


@pytest.mark.parametrize(
    "gains", [(1.08, 1, 1), (0.9, 1, 1), (1, 1.6, 1), (1, 0.4, 1), (1, 1, 1.3)]
)
def test_colour_gains(gains):
    """Compared with Python's own conversion; the wrap of the hue and saturated values included."""
    colours = np.array(
        [(200, 30, 60), (40, 180, 90), (20, 60, 220), (250, 10, 40), (90, 80, 70)], "uint8"
    )
    [found] = jitter_hsv(colours[None], *gains)
    for colour, received in zip(colours, found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(colour / 255))
        changed = hue * gains[0] % 1, min(saturation * gains[1], 1), min(value * gains[2], 1)
        np.testing.assert_allclose(received, 255 * np.array(colorsys.hsv_to_rgb(*changed)), atol=8)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data needs TensorFlow")
def test_tf_data_gives_the_same_epoch_by_epoch(data):
    options = {"shuffle": True, "augmentation": AUGMENTATIONS["mosaic"], "seed": 3}
    batches = DetectionBatches(data, 2, SIZE, **options)
    expected = [batches.load(epoch, batch) for epoch in (4, 5) for batch in range(3)]
    stream = data.batches(2, SIZE, first_epoch=4, epochs=2, **options)
    repeated = data.batches(2, SIZE, first_epoch=4, **options)
    assert len(list(stream)) == 6 and len(repeated) == 3
    for (images, boxes, classes), (tf_images, truth) in zip(
        expected * 2, [*stream, *repeated, *repeated], strict=True
    ):
        np.testing.assert_array_equal(tf_images, images)
        np.testing.assert_array_equal(truth["boxes"], boxes)
        np.testing.assert_array_equal(truth["classes"], classes)
    assert np.abs(expected[0][0] - expected[3][0]).max() > 1, "epochs differ"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow has streams")
def test_a_stream_frees_its_images(data):
    stream = data.batches(2, SIZE)
    batches, derived = weakref.ref(stream.batches), stream.take(1)
    del stream
    gc.collect()
    next(iter(derived))  # it keeps the batches
    del derived
    gc.collect()
    assert batches() is None


def test_preprocessed_images_are_float32(data):
    half = data.batches(2, SIZE, preprocess=lambda images: images / np.float64(2))
    whole = data.batches(2, SIZE)
    (halves, _), (images, _) = next(iter(half)), next(iter(whole))
    np.testing.assert_array_equal(np.asarray(halves), np.asarray(images) / np.float32(2))


def test_seed_changes_the_images(data):
    first, second = (
        DetectionBatches(data, 6, SIZE, augmentation=AUGMENTATIONS["zoom"], seed=seed).load(0, 0)
        for seed in (0, 1)
    )
    assert np.abs(first[0] - second[0]).max() > 1


def test_box_formats(data):
    xyxy = DetectionBatches(data, 6, SIZE).load(0, 0)
    relative = DetectionBatches(data, 6, SIZE, bounding_box_format="rel_yxyx").load(0, 0)
    there = xyxy[2] >= 0
    expected = xyxy[1][there][:, [1, 0, 3, 2]] / [SIZE[0], SIZE[1], SIZE[0], SIZE[1]]
    np.testing.assert_allclose(relative[1][there], expected, atol=1e-6)
    assert (relative[1][~there] == -1).all()


def test_colours_change_and_boxes_do_not(data):
    plain = DetectionBatches(data, 6, SIZE, augmentation=DetectionAugmentation()).load(0, 0)
    colour = DetectionAugmentation(hue=0.1, saturation=0.7, value=0.4)
    changed = DetectionBatches(data, 6, SIZE, augmentation=colour).load(0, 0)
    np.testing.assert_array_equal(plain[1], changed[1])
    assert np.abs(plain[0] - changed[0]).max() > 5


@pytest.mark.parametrize(("name", "most"), [("hue", 0.1), ("saturation", 0.4), ("value", 0.2)])
def test_each_colour_gain_has_its_range(coloured, name, most):
    plain, _ = load(coloured, None)
    changed, _ = load(coloured, DetectionAugmentation(**{name: most}))
    before, after = (
        np.array([colorsys.rgb_to_hsv(*image[48, 64] / 255) for image in images])
        for images in (plain, changed)
    )
    place = ("hue", "saturation", "value").index(name)
    gains = after[:, place] / before[:, place]
    assert 1 - most - 0.05 < gains.min() < 1 - 0.6 * most and gains.max() < 1 + most + 0.05
    rest = [other for other in range(3) if other != place]
    np.testing.assert_allclose(after[:, rest], before[:, rest], atol=0.03)


def test_mixup_blends_and_joins_boxes(data):
    mixed = DetectionBatches(data, 6, SIZE, augmentation=DetectionAugmentation(mixup=1.0))
    images, boxes, classes = mixed.load(0, 0)
    assert (classes >= 0).sum() == 12
    centres = (boxes[..., :2] + boxes[..., 2:])[classes >= 0].astype(int) // 2
    rows = np.nonzero(classes >= 0)[0]
    alone, _, _ = DetectionBatches(data, 6, SIZE).load(0, 0)
    assert alone.max() == 255
    brightest = images[rows, centres[:, 1], centres[:, 0]].max(-1)
    assert brightest.min() > 60 and brightest.mean() < 220  # white on black, of both images


def test_letterbox_is_centred_and_antialiased():
    pixels = np.zeros((100, 100, 3), "uint8")
    pixels[::2] = 255
    canvas, fit = letterbox(pixels, (32, 64))
    assert (fit.scale, fit.left, fit.top) == (0.32, 16, 0)
    assert (canvas[:, :16] == 114).all() and (canvas[:, 48:] == 114).all()
    assert np.abs(canvas[:, 16:48].astype(int) - 127).max() < 30


def test_an_image_without_boxes(data):
    empty = DetectionData(
        tuple(
            BoxedImage(
                i.image_id, i.name, i.source, i.size_hw, i.boxes[:0], i.classes[:0], i.crowd[:0]
            )
            for i in data.images
        ),
        data.class_names,
        data.category_ids,
    )
    for augmentation in AUGMENTATIONS.values():
        _, boxes, classes = DetectionBatches(empty, 6, SIZE, augmentation=augmentation).load(0, 0)
        assert boxes.shape == (6, 8, 4) and (classes == -1).all()


def test_to_dense():
    import tensorflow as tf

    boxes = tf.ragged.constant([[[1.0, 1, 9, 9]] * 9, []], ragged_rank=1, inner_shape=(4,))
    dense = to_dense({"boxes": boxes, "classes": tf.ragged.constant([[1] * 9, []])})
    assert dense["boxes"].shape == (2, 16, 4) and dense["classes"].sum(axis=1).tolist() == [2, -16]
    with pytest.raises(ValueError, match="1 boxes but 2 classes"):
        to_dense({"boxes": [[[0, 0, 1, 1]]], "classes": [[1, 2]]})


def test_bad_arguments(data):
    with pytest.raises(ValueError, match="`batch_size` must be an integer"):
        data.batches(0, SIZE)
    with pytest.raises(TypeError, match="must be a `keras_spd.data.DetectionAugmentation` or"):
        data.batches(1, SIZE, augmentation=lambda image: image)
    with pytest.raises(ValueError, match="`mosaic` must be between 0 and 1"):
        DetectionAugmentation(mosaic=2)
    with pytest.raises(ValueError, match="has no images"):
        DetectionData((), ("a",), (1,)).batches(1, SIZE)


def test_keras_does_not_mix_batches_of_two_epochs(data):
    from keras.src.trainers.epoch_iterator import EpochIterator

    expected = DetectionBatches(data, 1, SIZE)
    iterator = EpochIterator(DetectionBatches(data, 1, SIZE))
    next(iter(iterator))  # as `fit` does on JAX and PyTorch, to build the model
    iterator.reset()
    found = [images for _, _, [(images, _)] in iterator]
    assert len(found) == len(expected) > 4
    for number, images in enumerate(found):
        np.testing.assert_array_equal(images, expected.load(0, number)[0])
