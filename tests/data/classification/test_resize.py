"""Data for a classifier that letterboxes is letterboxed wherever it is read."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
from tiny import tiny_classifier

from keras_spd import data
from keras_spd.applications import Preprocessing
from keras_spd.cli.main import app
from keras_spd.export.images import read_classifier_images
from keras_spd.images.geometry import GRAY
from keras_spd.predict import Classifier
from keras_spd.training import load_recipe
from keras_spd.training.classification import ClassificationTask

SIZE = (16, 16)
LETTERBOX = Preprocessing("letterbox")


@pytest.fixture
def folder(tmp_path):
    """Wide and high images of two classes."""
    rng = np.random.default_rng(0)
    for name, shape in (("a", (12, 40, 3)), ("b", (40, 12, 3))):
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            pixels = rng.integers(0, 256, shape, dtype="uint8")
            keras.utils.save_img(tmp_path / split / name / "0.png", pixels, scale=False)
    return tmp_path


def letterboxing_classifier():
    return tiny_classifier(2, ("a", "b"), statistics="imagenet", resize="letterbox")


def test_training_follows_a_given_model(folder):
    model = letterboxing_classifier()
    splits = {f"data.{split}": str(folder / split) for split in ("train", "test")}
    recipe = load_recipe("short", overrides={**splits, "data.name": None, "batch_size": 2})
    task = ClassificationTask(recipe, given=model)
    [(images, _)] = [task.train_data.batches(2)[0]]
    for image, file in zip(images, ("a/0.png", "b/0.png"), strict=True):
        pixels = keras.utils.load_img(folder / "train" / file)
        np.testing.assert_array_equal(image, LETTERBOX.resize_image(pixels, SIZE))
    assert task.build().info.preprocessing.resize == "letterbox"
    # Stretched data gives a model that stretches.
    stretched = data.from_folder(folder / "train", image_size=SIZE)
    task = ClassificationTask(recipe, stretched, stretched, given=model)
    assert task.build().info.preprocessing.resize == "stretch"
    with pytest.raises(ValueError, match="resize='letterbox' and 'stretch'"):
        boxed = data.from_folder(folder / "train", image_size=SIZE, resize="letterbox")
        ClassificationTask(recipe, boxed, stretched, given=model)
    with pytest.raises(ValueError, match="`resize` must be one of .*Received: resize=.crop"):
        data.from_folder(folder / "train", image_size=SIZE, resize="crop")


def test_evaluate_scores_what_prediction_sees(folder, monkeypatch):
    model = letterboxing_classifier()
    model.save(folder / "model.keras")
    seen = []
    monkeypatch.setattr(
        Classifier,
        "_rows",
        lambda self, pixels, run=Classifier._rows: seen.extend(pixels) or run(self, pixels),
    )
    arguments = ["evaluate", folder / "test", "--weights", folder / "model.keras"]
    app([*map(str, arguments), "--output", str(folder / "scores")], standalone_mode=False)
    evaluated = list(seen)
    seen.clear()
    Classifier(model)([folder / "test" / "a" / "0.png", folder / "test" / "b" / "0.png"])
    assert len(seen) == len(evaluated) == 2
    np.testing.assert_array_equal(evaluated, seen)
    assert (seen[0][0] == GRAY).all()


@pytest.mark.slow
def test_splits_of_tfds(tmp_path):
    """`keras-spd export --dataset` calibrates and compares on them."""
    import tensorflow_datasets as tfds

    class WideShades(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = pathlib.Path(__file__).parent

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=["a", "b"]),
            }
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for label, shape in ((0, (8, 40, 3)), (1, (40, 8, 3))):
                yield label, {"image": np.full(shape, 200, "uint8"), "label": label}

    WideShades(data_dir=tmp_path).download_and_prepare()
    for resize in ("letterbox", "stretch"):
        preprocessing = dataclasses.replace(LETTERBOX, resize=resize)
        read = read_classifier_images(
            "train", SIZE, preprocessing, name="wide_shades", data_dir=tmp_path
        )
        expected = [
            preprocessing.resize_image(np.full(shape, 200, "uint8"), SIZE)
            for shape in ((8, 40, 3), (40, 8, 3))
        ]
        assert (expected[0] == GRAY).any() == (resize == "letterbox")
        order = np.argsort([image[0, 8, 0] for image in read])
        order_expected = np.argsort([image[0, 8, 0] for image in expected])
        np.testing.assert_allclose(read[order], np.stack(expected)[order_expected], atol=1)
