"""Batches from arrays and TFDS: complete, in an order that only depends on seed and epoch."""

import pathlib

import keras
import numpy as np
import pytest

from keras_spd import data
from keras_spd.applications import preprocess_input
from keras_spd.data.classification.arrays import ArrayBatches

AUGMENTATION = data.Augmentation(crop_padding=2, horizontal_flip=True)


@pytest.fixture
def arrays(rng):
    return rng.integers(0, 256, (50, 8, 8, 3)).astype("uint8"), np.arange(50) % 5


@pytest.fixture(params=["arrays", "tfds"])
def source(request, arrays):
    """50 images with distinct labels, as arrays and as a TFDS-backed dataset."""
    images, _ = arrays
    if request.param == "arrays":
        return data.from_arrays(images, np.arange(50))
    import tensorflow as tf

    from keras_spd.data.classification import tf_pipeline as tf_batches

    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(50)))

    def make_batches(batch_size, **options):
        return tf_batches.batches(dataset, 50, batch_size, **options)

    names = tuple(map(str, range(50)))
    return data.ClassificationData(50, (8, 8, 3), names, make_batches)


def epochs(batches, count):
    """Iterates a dataset as Keras does, and returns images and labels of each epoch."""
    result = []
    for _ in range(count):
        pairs = [tuple(map(np.array, batch)) for batch in _once(batches)]
        result.append([np.concatenate(column) for column in zip(*pairs, strict=True)])
        if hasattr(batches, "on_epoch_end"):
            batches.on_epoch_end()
    return result


def _once(batches):
    if hasattr(batches, "on_epoch_end"):
        return [batches[index] for index in range(len(batches))]
    return batches


@pytest.mark.slow
def test_evaluation_batches_are_all_images_in_order(source, arrays):
    batches = source.batches(16, preprocess=preprocess_input)
    for images, labels in epochs(batches, 2):
        np.testing.assert_array_equal(labels, np.arange(50))
        np.testing.assert_allclose(images, preprocess_input(arrays[0]), atol=1e-5)
    assert len(batches) == 4


@pytest.mark.slow
def test_alternating_flips_show_both_views_in_two_epochs(source, arrays):
    """Which images are flipped in an epoch depends neither on their order nor on the start."""
    options = {"augmentation": data.Augmentation(horizontal_flip="alternating"), "seed": 3}
    flipped = []
    for images, labels in [
        *epochs(source.batches(10, shuffle=True, **options), 3),
        *epochs(source.batches(10, shuffle=True, first_epoch=3, **options), 1),
    ]:
        originals = arrays[0][labels].astype("float32")
        now = np.all(images == originals[:, :, ::-1], axis=(1, 2, 3))
        assert np.all(now ^ np.all(images == originals, axis=(1, 2, 3)))
        flipped.append(now[np.argsort(labels)])
    assert 10 < flipped[0].sum() < 40
    np.testing.assert_array_equal(flipped[1], ~flipped[0])
    np.testing.assert_array_equal(flipped[2], flipped[0])
    np.testing.assert_array_equal(flipped[3], flipped[1])


def test_images_are_resized_after_augmentation(source, arrays):
    crops = {"augmentation": data.Augmentation(crop_padding=2), "seed": 1}
    [(cropped, _)] = epochs(source.batches(50, **crops), 1)
    [(images, _)] = epochs(source.batches(50, image_size=(4, 2), **crops), 1)
    resized = keras.ops.image.resize(cropped, (4, 2), antialias=True)
    np.testing.assert_array_equal(images, np.round(keras.ops.convert_to_numpy(resized)))
    [first] = [images for images, _ in epochs(source.batches(50, image_size=(8, 8)), 1)]
    np.testing.assert_allclose(first, arrays[0], atol=1e-3)


@pytest.mark.slow
def test_training_epochs_differ_and_repeat_with_the_seed(source):
    def run(**options):
        batches = source.batches(16, shuffle=True, augmentation=AUGMENTATION, **options)
        assert len(batches) == source.steps_per_epoch(16) == 3
        return epochs(batches, 3)

    first, again, other = run(seed=1), run(seed=1), run(seed=2)
    for (images, labels), (images_again, labels_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(labels, labels_again)
        np.testing.assert_array_equal(images, images_again)
        assert len(set(labels)) == 48  # each image once; the incomplete batch is dropped
    assert any(first[0][1] != first[1][1])
    assert any(first[0][1] != other[0][1])


def test_a_resumed_epoch_is_the_unbroken_one(source):
    options = {"shuffle": True, "augmentation": AUGMENTATION, "seed": 3}
    unbroken = epochs(source.batches(16, **options), 3)
    resumed = epochs(source.batches(16, first_epoch=2, **options), 1)
    for expected, actual in zip(unbroken[2], resumed[0], strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("source", ["tfds"], indirect=True)  # arrays are iterated by epoch
def test_a_stream_is_its_epochs_in_a_row(source):
    options = {"shuffle": True, "augmentation": AUGMENTATION, "seed": 3}
    stream = source.batches(16, epochs=2, first_epoch=1, **options)
    expected = epochs(source.batches(16, first_epoch=1, **options), 2)
    images, labels = (np.concatenate(column) for column in zip(*map(tuple, stream), strict=True))
    np.testing.assert_array_equal(labels, np.concatenate([labels for _, labels in expected]))
    np.testing.assert_array_equal(images, np.concatenate([images for images, _ in expected]))


def test_the_global_seed_of_tensorflow_does_not_matter(source):
    import tensorflow as tf

    def labels():
        return epochs(source.batches(16, shuffle=True, seed=1), 1)[0][1]

    tf.random.set_seed(7)
    first = labels()
    tf.random.set_seed(0)
    np.testing.assert_array_equal(labels(), first)


def test_small_data_sets_are_one_batch(source):
    assert source.steps_per_epoch(128) == 1
    ((_, labels),) = epochs(source.batches(128, shuffle=True), 1)
    assert len(labels) == 50


@pytest.mark.slow
def test_cifar10(cifar10_dir):
    test = data.from_tfds("cifar10", "test", data_dir=cifar10_dir, download=False)
    assert (test.num_images, test.image_shape) == (10_000, (32, 32, 3))
    assert test.class_names[:3] == ("airplane", "automobile", "bird")
    ((images, labels), *_) = test.batches(100)
    assert images.shape == (100, 32, 32, 3) and float(np.max(images)) > 200
    assert sum(len(labels) for _, labels in test.batches(128)) == 10_000


@pytest.mark.slow
def test_grayscale_images_of_different_sizes(tmp_path):
    """A TFDS dataset defined here: gray images of two sizes, two classes."""
    import tensorflow_datasets as tfds

    class GrayShades(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        # Otherwise it is found by this module's name, and other packages also have a `tests`.
        pkg_dir_path = pathlib.Path(__file__).parent

        dtype = np.uint8

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 1), dtype=self.dtype),
                    "label": tfds.features.ClassLabel(names=["dark", "light"]),
                }
            )
            return self.dataset_info_from_configs(
                features=features, supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for label, side in ((0, 10), (1, 20)):
                shade = np.full((side, side + 2, 1), 50 + 100 * label, self.dtype)
                yield label, {"image": shade, "label": label}

    class DeepShades(GrayShades):
        dtype = np.uint16

    DeepShades(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(ValueError, match="'deep_shades' are uint16. Only 8-bit images"):
        data.from_tfds("deep_shades", "train", data_dir=tmp_path, image_size=(8, 6))
    with pytest.raises(ValueError, match=r"differ in size. Pass `image_size=\(height, width\)`"):
        data.from_tfds("gray_shades", "train", data_dir=tmp_path)
    train = data.from_tfds("gray_shades", "train", data_dir=tmp_path, image_size=(8, 6))
    assert (train.image_shape, train.class_names) == ((8, 6, 3), ("dark", "light"))
    ((images, labels),) = train.batches(2)
    assert images.shape == (2, 8, 6, 3)
    for image, label in zip(np.array(images), np.array(labels), strict=True):
        np.testing.assert_array_equal(image, 50 + 100 * label)


def test_tfds_errors(cifar10_dir):
    with pytest.raises(ValueError, match="TFDS has no dataset 'cifar11'"):
        data.from_tfds("cifar11", "train", data_dir=cifar10_dir, download=False)
    with pytest.raises(ValueError, match=r"no split 'dev'.*It has: \['test', 'train'\]"):
        data.from_tfds("cifar10", "dev", data_dir=cifar10_dir, download=False)
    with pytest.raises(ValueError, match="not for classification"):
        data.from_tfds("coco/2017", "train", data_dir=cifar10_dir, download=False)


def test_array_errors(arrays):
    images, labels = arrays
    with pytest.raises(ValueError, match=r"Received: images.shape=\(50, 8, 8\)"):
        data.from_arrays(images[..., 0], labels)
    for values, received in (
        (images.astype("uint16") * 16, r"uint16 from 0 to 4080\."),
        (images / 255, r"float64 from 0 to 1\."),
        (images - 128.0, r"float64 from -128 to 127\."),
        (images * np.nan, r"float64 from nan to nan\."),
    ):
        with pytest.raises(ValueError, match=f"from 0 to 255. Received: {received}"):
            data.from_arrays(values, labels)
    with pytest.raises(ValueError, match=r"labels.shape=\(49,\)"):
        data.from_arrays(images, labels[1:])
    with pytest.raises(ValueError, match="at least one image"):
        data.from_arrays(images[:0], labels[:0])
    with pytest.raises(ValueError, match="class indices. Received: dtype=float"):
        data.from_arrays(images, labels / 2)
    with pytest.raises(ValueError, match="0 to 2, one for each of 3 classes. Received: 0 to 4"):
        data.from_arrays(images, labels, ["a", "b", "c"])
    with pytest.raises(ValueError, match="`batch_size` must be an integer >= 1. Received: batch"):
        data.from_arrays(images, labels).batches(0)


def test_an_augmentation_that_is_a_function_is_refused_at_once(arrays):
    with pytest.raises(TypeError, match="must be a `keras_spd.data.Augmentation` or `None`"):
        data.from_arrays(*arrays).batches(2, augmentation=lambda images: images)


def test_packaged_images():
    train, test = data.load_blood_cells("train"), data.load_blood_cells("test")
    assert (train.num_images, test.num_images) == (817, 614)
    assert train.class_names == test.class_names == ("RBC", "WBC", "Platelets")
    images, labels = train.batches(817)[0]
    assert images.shape == (817, 32, 32, 3)
    assert list(np.bincount(labels)) == [394, 214, 209]
    with pytest.raises(ValueError, match='must be "train" or "test"'):
        data.load_blood_cells("validation")
    with pytest.raises(ValueError, match="images of 32x32 pixels. Received: image_size=.64, 64."):
        data.load_classification("train", name="blood_cells", image_size=(64, 64))


def test_data_are_shown_in_one_line():
    names = tuple(f"class {label}" for label in range(100))
    shown = repr(data.from_arrays(np.zeros((3, 8, 4, 3)), np.array([0, 99, 1]), names))
    assert shown == (
        "<ClassificationData: 3 images of 8x4x3, "
        "100 classes (class 0, class 1, class 2, class 3, class 4, ...)>"
    )


def test_mixed_images_need_the_number_of_classes(rng):
    images, labels = rng.uniform(0, 255, (4, 8, 8, 3)), np.arange(4)
    with pytest.raises(ValueError, match="mix labels: pass `num_classes`"):
        ArrayBatches(images, labels, 2, augmentation=data.Augmentation(mixup=0.2))
