"""Images with more than 8 bits: one scale for a dataset, never one per image."""

import dataclasses

import keras
import numpy as np
import pytest
from labelled import write_coco, write_voc, write_yolo
from PIL import Image

from keras_spd.applications import ImageModel, ModelInfo
from keras_spd.data import from_folder, load_detection
from keras_spd.data.detection.check import describe_detection, format_description
from keras_spd.explain.network_input import class_probabilities, prepare
from keras_spd.explain.network_input import prepare as explain_input
from keras_spd.export import export_saved_model, export_tflite
from keras_spd.export.exported_models import load_exported
from keras_spd.images.max_value import find_max_value
from keras_spd.images.read import read_image
from keras_spd.predict import Classifier, Predictor, predict_coco
from keras_spd.training import load_recipe
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.detection import DetectionTask

HIGHEST = 3967  # of a 12-bit camera


def thermal(folder, dark):
    """Writes a 16-bit gradient, or one with an eighth of its brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.linspace(0, HIGHEST // 8 if dark else HIGHEST, 16 * 24).reshape(16, 24)
    Image.fromarray(values.astype("uint16")).save(folder / "a.png")
    return values.astype("uint16")


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_detection(write, tmp_path):
    for name, dark in (("light", False), ("dark", True)):
        folder = tmp_path / name
        values = thermal(folder / "images", dark)
        source = write(folder, (16, 24))
        for max_value in (None, 4095):
            data = load_detection(source, images=folder / "images", max_value=max_value)
            expected = np.rint(values * 255.0 / (max_value or 65535))
            np.testing.assert_array_equal(data.images[0].read()[..., 0], expected)
        report = describe_detection(data, (64, 64))
        assert report["max_value"] == (1023 if dark else 4095)
        said = f"pass `max_value={report['max_value']:g}`"
        assert said in format_description(report)
        too_small = load_detection(source, images=folder / "images", max_value=200)
        with pytest.raises(ValueError, match=r"a.png: the image has values up to \d+, above max_v"):
            too_small.images[0].read()
        with pytest.raises(ValueError, match="`max_value` must be a positive number"):
            load_detection(source, images=folder / "images", max_value=0)


def test_classification(tmp_path):
    values = {name: thermal(tmp_path / name, name == "b") for name in ("a", "b")}
    assert find_max_value(tmp_path.rglob("*.png")) == 4095
    data = from_folder(tmp_path, max_value=4095)
    images, labels = data.batches(2)[0]
    for image, label in zip(np.asarray(images), np.asarray(labels), strict=True):
        expected = np.rint(values["ab"[int(label)]] * 255.0 / 4095)
        np.testing.assert_array_equal(image[..., 0], expected)
    with pytest.raises(ValueError, match="above max_value=1023"):
        from_folder(tmp_path, max_value=1023)


def tf_load(path):
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["encoded"]
    return lambda contents: serve(contents=tf.constant(contents))


def seen(model, predictor, source):
    """What a model is given for an image."""
    given, predict = [], model.predict_on_batch
    model.predict_on_batch = lambda batch: given.append(np.asarray(batch)) or predict(batch)
    predictor([source])
    del model.predict_on_batch
    return given[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("max_value", [None, 16383])
def test_training_finds_it_and_the_classifier_keeps_it(max_value, tmp_path):
    for split, dark in (("train", False), ("test", True)):
        for name in "ab":
            thermal(tmp_path / split / name, dark)
    given = {"data.name": None} | ({"data.max_value": max_value} if max_value else {})
    folders = {f"data.{split}": str(tmp_path / split) for split in ("train", "test")}
    task = ClassificationTask(load_recipe("short", overrides=folders | given))
    model = task.build()
    assert model.info.max_value == (max_value or 4095)
    for batches, split in ((task.validation_batches(), "test"), (task.train_batches(0), "train")):
        if split == "train":
            batches = task.train_data.batches(2, preprocess=task._preprocess)
        file = tmp_path / split / "a" / "a.png"
        np.testing.assert_allclose(
            seen(model, Classifier(model, batch_size=1), file), batches[0][0][0], atol=1e-5
        )
    assert explain_input(model, file).batch[0] == pytest.approx(batches[0][0][0], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_training_finds_it_and_the_detector_keeps_it(write, tmp_path, thin_networks):
    sources = {}
    for split, dark in (("train", False), ("test", True)):
        thermal(tmp_path / split / "images", dark)
        sources[f"data.{split}"] = str(write(tmp_path / split, (16, 24)))
    overrides = {**sources, "data.image_size": (64, 96), "data.on_problem": "skip"}
    task = DetectionTask(load_recipe("short", task="detection", overrides=overrides))
    model = task.build()
    assert model.info.max_value == 4095
    predictor = Predictor(model, batch_size=1)
    for data, split in ((task.train_data, "train"), (task.test_data, "test")):
        [(images, _)] = data.batches(1, (64, 96))
        file = tmp_path / split / "images" / "a.png"
        np.testing.assert_array_equal(seen(model, predictor, file), images[0])
    # Data without a `max_value` is scored with the model's.
    unknown = load_detection(sources["data.test"], images=tmp_path / "test" / "images")
    assert unknown.max_value is None
    found = [predict_coco(model, data, confidence_threshold=0) for data in (unknown, data)]
    assert found[0] == found[1]


def test_training_and_test_data_of_different_depths_are_refused(tmp_path):
    thermal(tmp_path / "a", dark=False)
    data = {value: from_folder(tmp_path, max_value=value) for value in (4095, 16383)}
    with pytest.raises(ValueError, match="same `max_value`.*4095.* and 16383"):
        ClassificationTask(load_recipe("demo"), data[4095], data[16383])


@pytest.mark.slow
def test_a_model_keeps_it(tmp_path):
    """The model predicts with the value it was given, also when saved and as a TFLite file."""
    inputs = keras.Input((16, 24, 3))
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    top = keras.layers.Dense(2, activation="softmax", use_bias=False)
    outputs = top(mean)
    top.set_weights([np.array([[1, 0], [0, 0], [0, 0]]) / 64])
    info = ModelInfo(input_range=(0, 255), max_value=4095)
    model = ImageModel(inputs, outputs, info=info)
    thermal(tmp_path, dark=False)
    picture = read_image(tmp_path / "a.png", max_value=4095)
    [expected] = Classifier(model)([picture])
    model.save(tmp_path / "model.keras")
    export_tflite(model, tmp_path / "model.tflite")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.info.max_value == 4095
    served = tf_load(export_saved_model(model, tmp_path / "served"))
    encoded = served(contents=[(tmp_path / "a.png").read_bytes()])["predictions"][0]
    np.testing.assert_allclose(encoded, expected.confidence, atol=1e-5)
    for one in (model, loaded, load_exported(tmp_path / "model.tflite")):
        [found] = Classifier(one)([tmp_path / "a.png"])
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-5)
    probabilities = class_probabilities(loaded, prepare(loaded, tmp_path / "a.png"))
    assert probabilities.max() == pytest.approx(expected.confidence[0])
    model.info = dataclasses.replace(model.info, max_value=None)
    [dark] = Classifier(model)([tmp_path / "a.png"])
    assert dark.confidence[0] < expected.confidence[0] - 0.1


def test_a_misspelt_reaction_skips_no_image():
    with pytest.raises(ValueError, match="must be one of 'error', 'skip'.*on_problem='raise'"):
        find_max_value([b"no image"], on_problem="raise")
