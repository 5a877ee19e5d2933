"""Each rule against the layer it replaces, on sizes with every remainder."""

import itertools

import keras
import numpy as np
import pytest

import keras_spd
from keras_spd import surgery
from keras_spd.surgery.rules import is_strided

_layers = keras.layers


def _model(layer, channels=4, sides=(None, None)):
    model = keras.Sequential([keras.Input((*sides, channels)), layer])
    random = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape))
    return model


def _assert_same(model, converted, smallest, channels=4, count=7):
    random = np.random.default_rng(0)
    for height in range(smallest, smallest + count):
        images = random.normal(size=(2, height, smallest + count, channels)).astype("float32")
        expected = keras.ops.convert_to_numpy(model(images))
        received = keras.ops.convert_to_numpy(converted(images))
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("kernel_size", "strides"),
    [*itertools.product([1, 2, 3, 4, 5, 7], [2, 3]), (11, 4), (3, 5), ((1, 7), 2), ((5, 2), 3)],
)
def test_convolution(kernel_size, strides, padding):
    model = _model(_layers.Conv2D(3, kernel_size, strides, padding=padding, activation="relu"))
    converted = keras_spd.to_spd(model)
    assert not any(map(is_strided, converted.layers))
    _assert_same(model, converted, np.max(kernel_size), count=np.max(strides) + 2)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: _layers.Conv2D(6, 3, 2, padding="same", groups=2, use_bias=False),
        lambda: _layers.Conv2D(8, 5, 3, padding="valid", groups=4),
        lambda: _layers.DepthwiseConv2D(3, 2, padding="same", activation="relu"),
        lambda: _layers.DepthwiseConv2D(5, 3, padding="valid", depth_multiplier=2),
        lambda: _layers.DepthwiseConv2D(4, 2, padding="same", use_bias=False),
        lambda: _layers.SeparableConv2D(5, 3, 2, padding="same", activation="tanh"),
        lambda: _layers.SeparableConv2D(5, 3, 2, depth_multiplier=2, use_bias=False),
    ],
)
def test_groups_and_depthwise(layer):
    model = _model(layer())
    _assert_same(model, keras_spd.to_spd(model), 5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kind", [_layers.MaxPooling2D, _layers.AveragePooling2D])
@pytest.mark.parametrize("size", [(2, 2), (3, 2), (4, 2), (1, 2), (3, 3), (2, 3), (5, 3), (7, 4)])
def test_exact_pooling(kind, size, padding):
    model = _model(kind(*size, padding=padding))
    converted = keras_spd.to_spd(model, pooling="exact")
    assert converted.count_params() == 0
    _assert_same(model, converted, 7, count=size[1] + 2)


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (5, 3)])
def test_learned_pooling_starts_at_the_average(size):
    average = _model(_layers.AveragePooling2D(*size))
    _assert_same(average, keras_spd.to_spd(average, pooling="learned"), 7)
    maximum = _model(_layers.MaxPooling2D(*size))
    _assert_same(average, keras_spd.to_spd(maximum, pooling="learned"), 7)
    [layer] = surgery.plan(maximum, pooling="learned").layers
    assert not layer.exact and "outputs change" in layer.note


def test_depthwise_layers_are_kept_on_request():
    inputs = keras.Input((8, 8, 4))
    x = _layers.Conv2D(4, 3, 2, name="plain")(inputs)
    x = _layers.DepthwiseConv2D(3, 2, name="depthwise", padding="same")(x)
    model = keras.Model(inputs, _layers.SeparableConv2D(4, 1, 2, name="separable")(x))
    plan = surgery.plan(model, depthwise="keep")
    assert [layer.path for layer in plan.converted] == ["plain"]
    assert [layer.note for layer in plan.kept] == ['`depthwise="keep"`'] * 2
    assert len(surgery.plan(model).converted) == 3


def test_a_learned_pooling_of_several_widths_is_refused():
    pool, inputs = _layers.MaxPooling2D(name="pool"), keras.Input((8, 8, 4))
    model = keras.Model(inputs, pool(_layers.Conv2D(8, 3, padding="same")(pool(inputs))))
    [layer] = surgery.plan(model, pooling="learned").layers
    assert "called on different numbers of channels" in layer.note
    images = np.ones((1, 8, 8, 4), "float32")
    converted = keras_spd.to_spd(model, pooling="exact")
    np.testing.assert_allclose(converted(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", range(7, 12))
def test_known_sizes_need_alignment_only_where_they_do_not_fit(side):
    model = _model(_layers.Conv2D(3, 3, 2, padding="same"), sides=(side, 10))
    converted = keras_spd.to_spd(model)
    kinds = [type(layer).__name__ for layer in converted.layers]
    assert kinds == (["SPDConv"] if side % 2 == 0 else ["PhaseAlignment", "SPDConv"])
    images = np.random.default_rng(0).normal(size=(1, side, 10, 4)).astype("float32")
    np.testing.assert_allclose(converted(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_channels_first():
    layers = [
        _layers.Conv2D(6, 3, 2, padding="same", groups=2, data_format="channels_first"),
        _layers.SeparableConv2D(5, 3, 2, padding="same", data_format="channels_first"),
        _layers.MaxPooling2D(3, 2, padding="same", data_format="channels_first"),
    ]
    last = [
        _layers.Conv2D(6, 3, 2, padding="same", groups=2),
        _layers.SeparableConv2D(5, 3, 2, padding="same"),
        _layers.MaxPooling2D(3, 2, padding="same"),
    ]
    for first, usual in zip(layers, last, strict=True):
        model = _model(usual)
        other = keras.Sequential([keras.Input((4, None, None)), first])
        other.set_weights(model.get_weights())
        # TensorFlow cannot compute all of them on a CPU.
        converted, twin = (keras_spd.to_spd(one, pooling="exact") for one in (other, model))
        assert [type(layer) for layer in converted.layers] == [type(layer) for layer in twin.layers]
        for ours, theirs in zip(converted.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        shape = model.compute_output_shape((2, 9, 12, 4))
        assert converted.compute_output_shape((2, 4, 9, 12)) == (2, shape[3], *shape[1:3])


def test_layer_arguments_are_kept():
    layer = _layers.Conv2D(
        3, 3, 2, padding="same", kernel_regularizer="l2", bias_constraint="non_neg", name="down"
    )
    layer.trainable = False
    model = keras.Sequential(
        [keras.Input((8, 8, 4)), layer, _layers.DepthwiseConv2D(3, 2, activity_regularizer="l1")]
    )
    converted = keras_spd.to_spd(model)
    spd = converted.get_layer("down")
    assert not spd.trainable and not spd.conv.trainable
    assert isinstance(spd.conv.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(spd.conv.bias_constraint, keras.constraints.NonNeg)
    assert isinstance(converted.layers[1].activity_regularizer, keras.regularizers.L1)


def test_mixed_precision_comes_along():
    model = _model(_layers.Conv2D(3, 3, 2, padding="same", dtype="mixed_bfloat16"))
    converted = keras_spd.to_spd(model)
    assert converted.layers[-1].conv.compute_dtype == "bfloat16"
    assert converted.layers[-1].conv.kernel.dtype == "float32"
