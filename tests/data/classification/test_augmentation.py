"""Augmentation: its effect on pixels, and that it only depends on the key."""

import keras
import numpy as np
import pytest

from keras_spd import data
from keras_spd.data import Augmentation
from keras_spd.images.geometry import GRAY


def augment(augmentation, images, key):
    images = keras.ops.convert_to_tensor(images)
    function = augmentation.build(*images.shape[1:3])
    return keras.ops.convert_to_numpy(function(images, key))


def test_crop_is_a_whole_shift_and_every_shift_is_as_likely(rng):
    """With padding 1 there are nine equally likely results, as with torchvision's RandomCrop."""
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
    """A bright column through the centre tilts to both sides, by at most 15 degrees."""
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
    import tensorflow as tf

    images = rng.uniform(0, 255, (16, 8, 8, 3)).astype("float32")
    function = Augmentation(2, True, True, 15).build(8, 8)
    dataset = tf.data.Dataset.from_tensors((images, tf.constant([1, 2]))).map(function)
    (inside,) = dataset
    outside = function(tf.constant(images), tf.constant([1, 2]))
    np.testing.assert_array_equal(inside, outside)


def test_cutout_erases_a_square_inside_each_image(rng):
    images = rng.uniform(150, 255, (300, 8, 8, 3)).astype("float32")
    outputs = augment(Augmentation(cutout=3), images, (1, 2))
    erased = np.any(outputs != images, axis=3)
    assert set(outputs[erased].ravel()) == {GRAY}
    rows, columns = erased.any(axis=2), erased.any(axis=1)
    assert {*rows.sum(axis=1), *columns.sum(axis=1)} == {3}
    assert np.all(erased == rows[:, :, None] & columns[:, None, :])
    places = set(zip(rows.argmax(axis=1), columns.argmax(axis=1), strict=True))
    assert len(places) > 20  # of 36
    with pytest.raises(ValueError, match="`cutout` needs square images of one size, at least as"):
        Augmentation(cutout=9).build(8, 8)


def test_nothing_to_do():
    assert Augmentation().build(8, 8) is None
    with pytest.raises(ValueError, match="images of one size"):
        Augmentation(crop_padding=2).build(None, 8)
    with pytest.raises(ValueError, match="smaller than the images. Received: crop_padding=8 and"):
        Augmentation(crop_padding=8).build(8, 12)


@pytest.mark.parametrize(
    "flips", [{"horizontal_flip": 0.5}, {"horizontal_flip": "alternate"}, {"vertical_flip": 1}]
)
def test_flips_are_no_probabilities(flips):
    with pytest.raises(ValueError, match="must be one of `True`, `False`.* with probability 0.5"):
        Augmentation(**flips)


MIXED = Augmentation(mixup=0.4, cutmix=1.0, rand_augment=0.5)


def test_mixed_labels_are_fractions_of_the_pixels():
    """Images of one colour each: the fraction of another colour is the fraction of its label."""
    labels = np.eye(4, dtype="float32")
    images = np.repeat(np.repeat(labels[:, None, None, :3] * 255, 16, 1), 16, 2)
    for augmentation, atol in ((Augmentation(mixup=1.0), 1e-5), (Augmentation(cutmix=1.0), 0.13)):
        mix = augmentation.build_mixing()
        mixed, mixed_labels = (keras.ops.convert_to_numpy(x) for x in mix(images, labels, (3, 4)))
        np.testing.assert_allclose(mixed_labels.sum(1), 1, atol=1e-5)
        assert (mixed_labels.max(1) < 0.99).any()
        # Pasted boxes have whole pixels; the fraction is that of the drawn box.
        np.testing.assert_allclose(mixed.mean((1, 2)) / 255, mixed_labels[:, :3], atol=atol)


@pytest.mark.slow
def test_mixing_is_a_function_of_the_key():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (6, 8, 8, 3)).astype("float32")
    labels = np.eye(6, dtype="float32")
    mix = MIXED.build_mixing()
    runs = [mix(images, labels, key) for key in ((1, 2), (1, 2), (1, 3))]
    same = [
        np.array_equal(*(keras.ops.convert_to_numpy(run[part]) for run in runs[:2]))
        for part in (0, 1)
    ]
    assert same == [True, True]
    assert not np.array_equal(*(keras.ops.convert_to_numpy(run[0]) for run in runs[1:]))
    augment = MIXED.build(8, 8)
    runs = [keras.ops.convert_to_numpy(augment(images, key)) for key in ((1, 2), (1, 2), (1, 3))]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[1], runs[2])


@pytest.mark.slow
def test_the_strength_of_rand_augment():
    ramp = np.linspace(0, 255, 16)[:, None, None] * np.ones((16, 16, 3))
    images = np.stack([np.rot90(ramp, turns) for turns in (0, 1)]).astype("float32")
    weak, strong = (
        np.mean([np.abs(augment(images, (0, key)) - images).mean() for key in range(16)])
        for augment in (Augmentation(rand_augment=factor).build(16, 16) for factor in (0.1, 0.9))
    )
    assert 0 < 1.5 * weak < strong


@pytest.mark.slow
def test_mixup_and_cutmix_take_turns():
    """Some of many batches are blended (no pixel is one of the two), and some are pasted."""
    images = np.stack([np.zeros((8, 8, 3)), np.full((8, 8, 3), 200.0)]).astype("float32")
    mix, kinds = MIXED.build_mixing(), set()
    for key in range(20):
        mixed = keras.ops.convert_to_numpy(
            mix(images, np.eye(2, dtype="float32"), (0, 1000 * key))[0]
        )
        kinds.add(bool(np.isin(mixed, (0, 200)).all()))
    assert kinds == {True, False}


def test_mixing_needs_soft_labels():
    found = data.from_arrays(np.zeros((4, 8, 8, 3)), np.arange(4))
    with pytest.raises(ValueError, match="pass `soft_labels=True`"):
        found.batches(2, augmentation=MIXED)
    images, labels = found.batches(4, augmentation=MIXED, soft_labels=True)[0]
    assert labels.shape == (4, 4) and images.shape == (4, 8, 8, 3)
