"""Augmentation: what it does to pixels, and that a key decides it."""

import keras
import numpy as np
import pytest

from keras_spd.data import Augmentation


def augment(augmentation, images, key):
    images = keras.ops.convert_to_tensor(images)
    function = augmentation.build(*images.shape[1:3])
    return keras.ops.convert_to_numpy(function(images, key))


def test_crop_is_a_whole_shift_and_every_shift_is_as_likely(rng):
    """With padding 1 there are nine equally likely results, as of torchvision's RandomCrop."""
    image = rng.uniform(1, 255, (6, 5, 3)).astype("float32")
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    crops = [padded[y : y + 6, x : x + 5] for y in range(3) for x in range(3)]
    outputs = augment(Augmentation(crop_padding=1), np.stack([image] * 3600), (3, 4))
    counts = np.array([np.all(outputs == crop, axis=(1, 2, 3)).sum() for crop in crops])
    assert counts.sum() == 3600
    # 400 each; a standard deviation is 19.
    assert np.abs(counts - 400).max() < 80


def test_flips(rng):
    images = rng.uniform(0, 255, (400, 4, 4, 3)).astype("float32")
    for field, axis in (("horizontal_flip", 2), ("vertical_flip", 1)):
        outputs = augment(Augmentation(**{field: True}), images, (1, 2))
        flipped = np.all(outputs == np.flip(images, axis), axis=(1, 2, 3))
        kept = np.all(outputs == images, axis=(1, 2, 3))
        assert np.all(flipped ^ kept)
        assert 140 < flipped.sum() < 260


def test_rotation_stays_within_its_angle():
    """A bright column through the centre leans to both sides, by at most 15 degrees."""
    image = np.zeros((33, 33, 1), "float32")
    image[:, 16] = 1
    outputs = augment(Augmentation(rotation_degrees=15), np.stack([image] * 200), (1, 2))
    assert set(np.unique(outputs)) <= {0, 1}  # nothing is interpolated
    columns = np.argmax(outputs[:, 2, :, 0], axis=1)  # 14 rows above the centre
    lean = np.degrees(np.arctan2(columns - 16, 14))
    assert np.all(np.abs(lean) < 18)  # rounded to pixels
    assert lean.min() < -10 and lean.max() > 10


def test_a_key_decides(rng):
    augmentation = Augmentation(2, True, True, 15)
    images = rng.uniform(0, 255, (16, 8, 8, 3)).astype("float32")
    first = augment(augmentation, images, (1, 2))
    np.testing.assert_array_equal(augment(augmentation, images, (1, 2)), first)
    assert np.any(augment(augmentation, images, (1, 3)) != first)
    assert np.any(augment(augmentation, images, (2, 2)) != first)


def test_inside_tf_data_as_outside(rng):
    tf = pytest.importorskip("tensorflow", reason="tf.data needs TensorFlow")
    images = rng.uniform(0, 255, (16, 8, 8, 3)).astype("float32")
    function = Augmentation(2, True, True, 15).build(8, 8)
    dataset = tf.data.Dataset.from_tensors((images, tf.constant([1, 2]))).map(function)
    (inside,) = dataset
    outside = function(tf.constant(images), tf.constant([1, 2]))
    np.testing.assert_array_equal(inside, outside)


def test_nothing_to_do():
    assert Augmentation().build(8, 8) is None
    with pytest.raises(ValueError, match="images of one size"):
        Augmentation(crop_padding=2).build(None, 8)
