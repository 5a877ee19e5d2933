"""Sizes given as one integer or two, and what is not a size."""

import numpy as np
import pytest

import keras_spd
from keras_spd.images.sizes import check_image_size, parse_sides
from keras_spd.training import load_recipe


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        (64, (64, 64)),
        ((48, 64), (48, 64)),
        ([48, 64], (48, 64)),
        (np.int64(64), (64, 64)),
        (np.array([48, 64]), (48, 64)),
    ],
)
def test_one_or_two_integers_are_a_size(size, sides):
    assert check_image_size(size) == sides
    assert all(type(side) is int for side in check_image_size(size))


@pytest.mark.parametrize("wrong", [0, -5, (64,), (64, 64, 3), (0, 64), "64", 64.5, (1.5, 2), None])
def test_anything_else_is_refused(wrong):
    with pytest.raises(ValueError, match=r"one or two positive integers, \(height, width\)"):
        check_image_size(wrong)


def test_the_shortest_side_can_be_set():
    assert parse_sides(32, smallest=32) == (32, 32)
    assert parse_sides((31, 64), smallest=32) is None


@pytest.mark.parametrize("name", ["short", "short_detection"])
def test_recipes_take_one_number_as_well(name):
    recipe = load_recipe(name, overrides={"data.image_size": 64})
    assert recipe.data.image_size == (64, 64)
    with pytest.raises(
        ValueError, match=r"data.image_size: .*positive int.*Received: image_size=0"
    ):
        load_recipe(name, overrides={"data.image_size": 0})


def test_functions_take_one_number_as_well():
    model = keras_spd.applications.ResNet18SPD(weights=None, classes=2, input_shape=(None, None, 3))
    count = keras_spd.surgery.count_multiply_adds
    assert count(model, 32) == count(model, (32, 32)) > 0
    data = keras_spd.data.load_classification("train", name="blood_cells", image_size=32)
    [images, _], *_ = data.batches(4, image_size=16)
    assert images.shape == (4, 16, 16, 3)
    canvas, _ = keras_spd.data.letterbox(np.zeros((4, 8, 3), "uint8"), 16)
    assert canvas.shape == (16, 16, 3)
