"""What a model keeps when it is saved, loaded and cloned."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_spd.applications import ImageModel, ModelInfo, ResNet18SPD, get_statistics
from keras_spd.image_model import find_pyramid


@pytest.fixture
def model(thin_networks):
    model = ResNet18SPD(classes=2, input_shape=(16, 16, 3))
    model.info = dataclasses.replace(
        model.info,
        class_names=("cat", "dog"),
        statistics=get_statistics("cifar10"),
        input_range=(0.0, 1.0),
    )
    return model


def test_config_round_trip(model):
    twin = ImageModel.from_config(json.loads(json.dumps(model.get_config())))
    assert twin.info == model.info
    assert twin.pyramid_level_inputs == model.pyramid_level_inputs


@pytest.mark.slow
def test_clone_is_an_image_model(model):
    assert isinstance(keras.models.clone_model(model), ImageModel)


def test_class_names_must_fit(model):
    with pytest.raises(ValueError, match="each of the 2 outputs of the model. Received: 3 names"):
        model.info = dataclasses.replace(model.info, class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match="must be a `ModelInfo`"):
        model.info = {"class_names": ["cat", "dog"]}


def test_a_training_step_is_traced_once(graphs):
    inputs = keras.Input((2, 2, 3))
    model = ImageModel(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(inputs)))
    model.compile("adam", "mse")
    step, traced = model.train_step, []
    model.train_step = lambda data: (traced.append(data), step(data))[1]
    model.fit(np.ones((2, 2, 2, 3)), np.ones((2, 1)), verbose=0)
    assert len(traced) == 1


def test_class_names_are_a_tuple():
    info = dataclasses.replace(ModelInfo(), class_names=["cat", "dog"])
    assert info.class_names == ("cat", "dog") and hash(info.class_names)


def test_a_pyramid_with_a_layer_of_two_outputs():
    class Halves(keras.layers.Layer):
        def call(self, x):
            return keras.ops.split(x, 2, axis=-1)

    images = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(8, 3, 2, "same", name="conv")(images)
    left, right = Halves()(x)
    assert find_pyramid(keras.Model(images, left + right))["P1"] == "conv"


def test_image_size_is_one_integer_or_two():
    assert ModelInfo(image_size=32).image_size == (32, 32)
    assert dataclasses.replace(ModelInfo(), image_size=[32, 48]).image_size == (32, 48)
    for wrong in ((32.9, 32.9), 0):
        with pytest.raises(ValueError, match="`image_size` must be one or two positive integers"):
            ModelInfo(image_size=wrong)
    with pytest.raises(ValueError, match="must be a sequence of names. Received: .*'cat'"):
        ModelInfo(class_names="cat")
