"""Damaged weights files give an error that names them, or load unchanged values."""

import json
import random
import zipfile

import keras
import numpy as np
import pytest
import safetensors.numpy

from keras_spd.applications import ImageModel, ModelInfo
from keras_spd.applications.trained import load_trained
from keras_spd.predict import load_model
from keras_spd.weights.keras_file import load_keras_file
from keras_spd.weights.loading import load_weights
from keras_spd.weights.reader import read_checkpoint

TRIES = 60


def build():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    x = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x))
    return ImageModel(inputs, x, info=ModelInfo(input_range=(0, 1)), name="small")


def read_h5(path):
    load_weights(model := build(), path)
    return model.get_weights()


READERS = {
    "model.keras": lambda path: load_model(path).get_weights(),
    "model.weights.h5": read_h5,
    "model.safetensors": lambda path: list(read_checkpoint(path).arrays.values()),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model = build()
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    arrays = {f"{index:02d}.weight": array for index, array in enumerate(model.get_weights())}
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    return folder


def damage(content, rng):
    """Returns a kind of damage and the bytes with it, half of them near an end of the file."""
    near = rng.choice([rng.randrange(600), len(content) - 1 - rng.randrange(600)])
    at = rng.choice([near, rng.randrange(len(content))])
    damaged = bytearray(content)
    kind = rng.choice(["flip", "zero", "cut", "insert", "delete"])
    if kind == "flip":
        damaged[at] ^= 1 << rng.randrange(8)
    elif kind == "zero":
        damaged[at : at + 64] = bytes(len(damaged[at : at + 64]))
    elif kind == "cut":
        del damaged[at:]
    elif kind == "insert":
        damaged[at:at] = rng.randbytes(rng.choice([1, 4, 100]))
    else:
        del damaged[at : at + rng.choice([1, 8, 500])]
    return kind, bytes(damaged)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_damage(name, files, tmp_path):
    content, rng = (files / name).read_bytes(), random.Random(name)
    whole = READERS[name](files / name)
    refused = 0
    for attempt in range(TRIES):
        kind, damaged = damage(content, rng)
        path = (
            tmp_path / f"{attempt}.{name.partition('.')[2]}"
        )  # HDF5 remembers files it has opened
        path.write_bytes(damaged)
        try:
            arrays = READERS[name](path)
        except ValueError as error:
            message = str(error)
            assert path.name in message and "damaged" in message
            assert len(message) < 800
            refused += 1
            continue
        assert kind in ("flip", "zero") or damaged == content, (attempt, kind)
        assert [array.shape for array in arrays] == [array.shape for array in whole]
        if name == "model.keras":  # the others have no checksums
            for array, expected in zip(arrays, whole, strict=True):
                np.testing.assert_array_equal(array, expected, err_msg=f"{attempt} {kind}")
    assert refused > TRIES / 3


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(value, tmp_path):
    model = build()
    model.layers[1].kernel.assign(model.layers[1].kernel + value)
    model.save_weights(tmp_path / "diverged.weights.h5")
    with pytest.raises(ValueError, match="diverged.weights.h5 holds weights that are NaN or inf"):
        load_weights(model, tmp_path / "diverged.weights.h5")
    model.save(tmp_path / "diverged.keras")
    for load in (load_keras_file, load_trained):
        with pytest.raises(ValueError, match="diverged.keras holds weights that are NaN or inf"):
            load(tmp_path / "diverged.keras")


def test_the_error_for_a_wrong_file_is_short(files, tmp_path):
    """Keras' own message holds the configuration of the model: 49 kB for a detector."""
    content = (files / "model.keras").read_bytes()
    assert b'"class_name": "Conv2D"' in content
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(files / "model.keras") as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            entry = old.read(member)
            if member == "config.json":
                config = json.loads(entry)
                config["config"]["layers"] *= 200
                config["config"]["layers"][1]["class_name"] = "Conv9D"
                entry = json.dumps(config).encode()
            new.writestr(member, entry)
    with pytest.raises(ValueError, match="Cannot load a model from .*other.keras") as error:
        load_model(path)
    assert len(str(error.value)) < 800
