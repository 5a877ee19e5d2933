"""Detectors with one class: the untrained class logit, and when it is used."""

import dataclasses

import keras
import numpy as np
import pytest
import reference
import safetensors.numpy

import keras_spd
from keras_spd.applications import YOLOV5SPD, load_torch_model
from keras_spd.detection import Decoder

TINY = (0.33, 0.125)
SIZE = (64, 96)


@pytest.fixture
def images(rng):
    return rng.uniform(0, 255, (2, *SIZE, 3)).astype("float32")


@pytest.fixture
def checkpoint(tmp_path):
    """A file of the authors with one class: their head for 80 classes, cut."""
    arrays, _, _ = reference.load("yolov5_spd_n")
    for name, array in arrays.items():
        if array.shape[:1] == (255,):
            one = array.reshape(3, 85, *array.shape[1:])[:, :6]
            arrays[name] = np.ascontiguousarray(one.reshape(18, *array.shape[1:]))
    safetensors.numpy.save_file(arrays, tmp_path / "one_class.safetensors")
    return tmp_path / "one_class.safetensors"


def expected_confidence(model, images, with_class):
    """The best confidence of each image by the formula."""
    raw = model(images)
    rows = [np.array(raw[level], "float64").reshape(len(images), -1, 6) for level in raw]
    probabilities = 1 / (1 + np.exp(-np.concatenate(rows, axis=1)[..., 4:]))
    return (probabilities.prod(axis=-1) if with_class else probabilities[..., 0]).max(axis=1)


def best(found):
    return np.array(found["confidence"])[:, 0]


def exported(model, images):
    """The decoding that is inside TFLite, ONNX and SavedModel files."""
    from keras_spd.export.detections import with_detections

    return with_detections(model, SIZE, len(images)).predict_on_batch(images)


def train(model, images):
    boxes = np.array([[[8, 8, 40, 40]]] * len(images), "float32")
    model.compile()
    model.train_on_batch(images, {"boxes": boxes, "classes": np.zeros((len(images), 1), "int32")})


@pytest.mark.slow
def test_a_network_of_ours_reports_objectness(images, tmp_path, thin_networks):
    model = YOLOV5SPD(TINY, classes=1)
    model.decoder = Decoder(0.0)
    for layer in model.network.layers:  # a logit that would show
        if layer.name.startswith("head_") and layer.name.endswith("_conv"):
            layer.bias.assign(layer.bias - np.tile([0, 0, 0, 0, 0, 5], 3))
    wanted = expected_confidence(model, images, with_class=False)
    np.testing.assert_allclose(best(model.predict(images, verbose=0)), wanted, rtol=1e-4)
    if keras.backend.backend() == "tensorflow":
        np.testing.assert_allclose(best(exported(model, images)), wanted, rtol=1e-4)
    model.save(tmp_path / "ours.keras")
    for again in (keras.saving.load_model(tmp_path / "ours.keras"), keras_spd.fold(model)):
        np.testing.assert_allclose(best(again.predict(images, verbose=0)), wanted, rtol=1e-4)


@pytest.mark.slow
def test_a_checkpoint_of_the_authors_keeps_their_product(checkpoint, images, tmp_path):
    model = YOLOV5SPD("n", weights=checkpoint, classes=1)
    wanted = expected_confidence(model, images, with_class=True)
    load_torch_model(checkpoint).save(tmp_path / "one.keras")
    loaded = keras.saving.load_model(tmp_path / "one.keras")
    for detector in (model, loaded, keras_spd.fold(model)):
        detector.decoder = Decoder(0.0)
        np.testing.assert_allclose(best(detector.predict(images, verbose=0)), wanted, rtol=1e-3)
    if keras.backend.backend() == "tensorflow":
        np.testing.assert_allclose(best(exported(model, images)), wanted, rtol=1e-3)


@pytest.mark.slow
def test_training_ends_it(images, thin_networks, graphs):
    model = YOLOV5SPD(TINY, classes=1, levels=("P3",))
    model.head = dataclasses.replace(model.head, single_class_logit=True)  # as of a checkpoint
    model.decoder = Decoder(0.0)
    model.predict(images, verbose=0)  # traced with the product
    train(model, images)
    wanted = expected_confidence(model, images, with_class=False)
    np.testing.assert_allclose(best(model.predict(images, verbose=0)), wanted, rtol=1e-3)


@pytest.mark.slow
def test_which_transfers_read_the_logit(tmp_path, thin_networks):
    several = YOLOV5SPD(TINY, classes=2, class_names=("car", "boat"))
    several.save(tmp_path / "two.keras")
    one = YOLOV5SPD(TINY, classes=1, class_names=("boat",))
    one.save(tmp_path / "one.keras")

    def reads(file, name):
        model = YOLOV5SPD(TINY, weights=tmp_path / file, classes=1, class_names=(name,))
        return model.head.single_class_logit

    assert reads("two.keras", "boat")  # trained beside the car's
    assert not reads("two.keras", "bird")  # initialised
    assert not reads("one.keras", "boat")  # never trained
    one.head = dataclasses.replace(
        one.head, single_class_logit=True
    )  # as of a checkpoint of the authors'
    one.save(tmp_path / "one.keras")
    assert reads("one.keras", "boat")
    assert not reads("one.keras", "bird")
