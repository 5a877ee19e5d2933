"""Holding out a fraction of a dataset: stratified, repeatable, and without overlap."""

import functools

import numpy as np
import pytest
from drawings import write_drawings
from PIL import Image

from keras_spd import data
from keras_spd.data.hold_out import hold_out


@pytest.mark.parametrize(
    ("fraction", "seed"), [(0.1, 0), (0.1, 7), (0.25, 0), (0.9, 3), (np.float32(0.25), 0)]
)
def test_each_class_alike_and_without_overlap(fraction, seed):
    labels = np.random.default_rng(1).choice(3, 500, p=(0.7, 0.25, 0.05))
    rest, held_out = hold_out(labels, fraction, seed)
    assert sorted([*rest, *held_out]) == list(range(500))
    assert len(held_out) == round(500 * fraction)
    for label in range(3):
        expected = fraction * (labels == label).sum()
        assert abs((labels[held_out] == label).sum() - expected) <= 1.5
    np.testing.assert_array_equal(hold_out(labels, fraction, seed)[1], held_out)
    assert list(hold_out(labels, fraction, seed + 1)[1]) != list(held_out)


def test_an_image_of_each_class_remains():
    rest, held_out = hold_out(np.array([0, 0, 0, 0, 1]), 0.9, seed=0)
    assert len(held_out) == 3 and 4 in rest
    assert [len(part) for part in hold_out(np.zeros(20, int), 0.001, seed=0)] == [19, 1]
    with pytest.raises(ValueError, match=r"only one image of each class, 3 in all"):
        hold_out(np.arange(3), 0.5, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 1, True, "0.1", float("nan")])
def test_bad_fractions(fraction):
    with pytest.raises(ValueError, match="`fraction` must be a number between 0 and 1"):
        hold_out(np.zeros(4, int), fraction, seed=0)


def from_arrays(folder):
    return data.from_arrays(numbered(), np.arange(20) % 2)


def from_folder(folder):
    for number, pixels in enumerate(numbered()):
        file = folder / "images" / str(number % 2) / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return data.from_folder(folder / "images")


@functools.cache  # TFDS refuses a second class of the same name
def numbered_builder():
    import tensorflow_datasets as tfds

    class Numbered(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "label": tfds.features.ClassLabel(names=["0", "1"]),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number, pixels in enumerate(numbered()):
                yield number, {"image": pixels, "label": number % 2}

    return Numbered


def from_tfds(folder):
    numbered_builder()(data_dir=folder).download_and_prepare()
    return data.from_tfds("numbered", "train", data_dir=folder, image_size=(4, 4))


def numbered():
    """Returns 20 images, each of one value, its number."""
    return np.tile(np.arange(20, dtype="uint8")[:, None, None, None], (1, 8, 8, 3))


def read(dataset, **options):
    """Returns the numbers of the images of an epoch, and their labels."""
    batches = dataset.batches(3, **options)
    batches = (
        batches
        if hasattr(batches, "as_numpy_iterator")
        else map(batches.__getitem__, range(len(batches)))
    )
    images, labels = zip(*((np.array(x), np.array(y)) for x, y in batches), strict=True)
    return np.concatenate(images)[:, 0, 0, 0].round().astype(int), np.concatenate(labels)


@pytest.mark.slow
@pytest.mark.parametrize("make", [from_arrays, from_folder, from_tfds])
def test_classification_data_of_any_source(make, tmp_path):
    dataset = make(tmp_path)
    train, validation = dataset.hold_out(0.3, seed=5)
    assert (train.num_images, validation.num_images) == (14, 6)
    assert (train.image_shape, train.class_names) == (dataset.image_shape, dataset.class_names)
    numbers, labels = zip(read(train), read(validation), strict=True)
    assert sorted([*numbers[0], *numbers[1]]) == list(range(20))
    for found, label in zip(numbers, labels, strict=True):
        np.testing.assert_array_equal(label, found % 2)
    assert labels[1].sum() == 3
    again = dataset.hold_out(0.3, seed=5)[1]
    np.testing.assert_array_equal(read(again)[0], numbers[1])
    shuffled, _ = read(train, shuffle=True)
    assert len(set(shuffled)) == 12 and set(shuffled) < set(numbers[0])
    inner, held_out_again = train.hold_out(0.5)
    assert sorted([*read(inner)[0], *read(held_out_again)[0]]) == sorted(numbers[0])


def test_held_out_images_of_tfds_are_not_decoded_for_training(tmp_path, monkeypatch):
    from keras_spd.data.classification import tf_pipeline

    selected, select = [], tf_pipeline.select
    monkeypatch.setattr(
        tf_pipeline, "select", lambda encoded, *a: selected.append(encoded) or select(encoded, *a)
    )
    train, _ = from_tfds(tmp_path).hold_out(0.3)
    read(train)
    assert selected and all(one.element_spec[0].dtype == "string" for one in selected)


def test_data_that_cannot_be_split():
    dataset = data.ClassificationData(2, (8, 8, 3), ("a", "b"), lambda *args, **options: None)
    with pytest.raises(
        ValueError, match=r"without `read_labels` and `select`.*Pass the validation"
    ):
        dataset.hold_out(0.5)


def test_detection_data(tmp_path):
    dataset = data.load_detection(write_drawings(tmp_path / "drawings", count=10))
    train, validation = dataset.hold_out(0.3, seed=1)
    parts = [{image.image_id for image in part.images} for part in (train, validation)]
    assert [len(part) for part in parts] == [7, 3] and not parts[0] & parts[1]
    content = validation.to_coco()
    assert {image["id"] for image in content["images"]} == parts[1]
    assert len(content["annotations"]) == sum(len(image.boxes) for image in validation.images)
