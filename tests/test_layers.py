"""SpaceToDepth and SPDConv against plain NumPy and against Keras' own layers."""

import keras
import numpy as np
import pytest
import testing

from keras_spd.layers import SpaceToDepth, SPDConv
from keras_spd.surgery import SPDDepthwiseConv


def space_to_depth(images, scale):
    """The definition: channel (row * scale + column) * C + c is pixel (row, column) of a patch."""
    bottom, right = -images.shape[1] % scale, -images.shape[2] % scale
    images = np.pad(images, ((0, 0), (0, bottom), (0, right), (0, 0)))
    phases = [images[:, y::scale, x::scale] for y in range(scale) for x in range(scale)]
    return np.concatenate(phases, axis=-1)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("sides", [(8, 8), (7, 9), (1, 5), (12, 24), (1, 1)])
def test_space_to_depth_is_its_definition(rng, scale, sides):
    images = rng.normal(size=(2, *sides, 3)).astype("float32")
    np.testing.assert_array_equal(SpaceToDepth(scale)(images), space_to_depth(images, scale))


@pytest.mark.parametrize("sides", [(8, 6), (7, 9)])
def test_channels_first_is_the_transpose(rng, sides):
    images = rng.normal(size=(2, *sides, 3)).astype("float32")
    output = SpaceToDepth(2, data_format="channels_first")(images.transpose(0, 3, 1, 2))
    expected = space_to_depth(images, 2).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(output, expected)


@pytest.mark.slow
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_unknown_sides(rng, data_format):
    shape = (None, None, 3) if data_format == "channels_last" else (3, None, None)
    inputs = keras.Input(shape)
    outputs = SpaceToDepth(2, data_format=data_format)(inputs)
    assert outputs.shape == tuple(4 * side if side else None for side in inputs.shape)
    model = keras.Model(inputs, outputs)
    for sides in [(6, 4), (7, 4), (5, 3)]:
        images = rng.normal(size=(1, *sides, 3)).astype("float32")
        expected = space_to_depth(images, 2)
        if data_format == "channels_first":
            images, expected = (x.transpose(0, 3, 1, 2) for x in (images, expected))
        np.testing.assert_array_equal(model.predict(images, verbose=0), expected)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            compiled = tf.function(model, input_signature=[tf.TensorSpec(inputs.shape)])
            np.testing.assert_array_equal(compiled(images), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "bfloat16", "float32", "float64"])
def test_dtypes(dtype):
    images = keras.ops.cast(np.arange(5 * 4 * 3).reshape(1, 5, 4, 3), dtype)
    layer = SpaceToDepth(dtype=dtype if "float" in dtype else None)
    output = layer(images)
    assert keras.backend.standardize_dtype(output.dtype) == dtype
    assert layer(keras.KerasTensor(images.shape, dtype=dtype)).dtype == dtype
    expected = space_to_depth(np.arange(5 * 4 * 3, dtype="float64").reshape(1, 5, 4, 3), 2)
    np.testing.assert_array_equal(keras.ops.cast(output, "float64"), expected)


def test_contract(tmp_path):
    testing.run_layer_test(
        SpaceToDepth,
        {"scale": 3, "data_format": "channels_first", "name": "spd", "trainable": False},
        (2, 5, 7, 6),
        tmp_path=tmp_path,
    )


@pytest.mark.slow
def test_spd_conv_contract(tmp_path):
    layer, _ = testing.run_layer_test(
        SPDConv,
        {
            "filters": 8,
            "kernel_size": (3, 2),
            "scale": 3,
            "padding": "same",
            "data_format": "channels_first",
            "dilation_rate": (2, 1),
            "groups": 2,
            "activation": "tanh",
            "use_bias": False,
            "kernel_initializer": keras.initializers.HeNormal(seed=1),
            "bias_initializer": keras.initializers.RandomNormal(seed=2),
            "kernel_regularizer": keras.regularizers.L2(0.1),
            "bias_regularizer": keras.regularizers.L1(0.1),
            "activity_regularizer": keras.regularizers.L2(0.01),
            "kernel_constraint": keras.constraints.NonNeg(),
            "bias_constraint": keras.constraints.UnitNorm(axis=0),
            "name": "block",
        },
        (2, 4, 7, 8),
        tmp_path=tmp_path,
    )
    assert layer.conv.kernel.shape == (3, 2, 9 * 4 // 2, 8)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_spd_conv_is_space_to_depth_then_conv(rng, padding, data_format):
    images = rng.normal(size=(2, 9, 8, 3)).astype("float32")
    layer = SPDConv(5, 3, 2, padding=padding, data_format=data_format)
    reference = keras.layers.Conv2D(5, 3, padding=padding)
    if data_format == "channels_first":
        output = np.array(layer(images.transpose(0, 3, 1, 2))).transpose(0, 2, 3, 1)
    else:
        output = layer(images)
    phases = space_to_depth(images, 2)
    reference.build(phases.shape)
    reference.set_weights(layer.get_weights())
    np.testing.assert_allclose(output, reference(phases), rtol=1e-5, atol=1e-5)


def test_spd_conv_contains_the_strided_convolution(rng):
    """Conv2D(s * k, stride s) and SPDConv(k, scale s) are one map: the identity of the design."""
    images = rng.normal(size=(2, 8, 12, 3)).astype("float32")
    strided = keras.layers.Conv2D(4, 4, strides=2)
    expected = strided(images)
    kernel, bias = strided.get_weights()
    # Weight (2i + y, 2j + x) of the strided kernel is weight (i, j) of phase (y, x).
    weights = kernel.reshape(2, 2, 2, 2, 3, 4).transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 12, 4)
    layer = SPDConv(4, 2, 2)
    layer.build(images.shape)
    layer.set_weights([weights, bias])
    np.testing.assert_allclose(layer(images), expected, rtol=1e-5, atol=1e-5)


def test_spd_conv_groups_see_their_own_channels(rng):
    """Each group of a grouped SPDConv is an ungrouped SPDConv on its own input channels."""
    images = rng.normal(size=(2, 6, 7, 6)).astype("float32")
    layer = SPDConv(8, 3, 2, groups=2, padding="same")
    output = layer(images)
    kernel, bias = layer.get_weights()
    for group in range(2):
        one = SPDConv(4, 3, 2, padding="same")
        one.build((2, 6, 7, 3))
        one.set_weights([kernel[..., 4 * group : 4 * group + 4], bias[4 * group : 4 * group + 4]])
        expected = one(images[..., 3 * group : 3 * group + 3])
        np.testing.assert_allclose(
            output[..., 4 * group : 4 * group + 4], expected, rtol=1e-4, atol=1e-5
        )


def test_spd_conv_takes_what_conv2d_takes():
    import inspect

    def defaults(layer):
        parameters = inspect.signature(layer.__init__).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}

    ours, conv = defaults(SPDConv), defaults(keras.layers.Conv2D)
    assert set(ours) == set(conv) - {"strides"} | {"scale"}
    for name in set(conv) & set(ours) - {"self", "kernel_size"}:
        assert ours[name] == conv[name], name


@pytest.mark.parametrize("layer", [SpaceToDepth, lambda scale: SPDConv(4, 3, scale)])
@pytest.mark.parametrize("scale", [1, 0, -2, 2.5, "2", None, True])
def test_bad_scale(layer, scale):
    with pytest.raises(ValueError, match=r"`scale` must be an integer >= 2. Received: scale="):
        layer(scale)


@pytest.mark.parametrize("layer", [SpaceToDepth(2), SPDConv(4)])
def test_bad_rank(layer):
    with pytest.raises(ValueError, match=r"rank 4. Received: input_shape=\(8, 8, 3\)"):
        layer(np.zeros((8, 8, 3), "float32"))
    with pytest.raises(ValueError, match="rank 4"):
        layer(keras.KerasTensor((None, 8, 3)))


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="takes no `strides`.*Received: strides=2. Pass `scale`"):
        SPDConv(4, 3, strides=2)
    with pytest.raises(ValueError, match="data_format='NHWC'"):
        SpaceToDepth(2, data_format="NHWC")
    with pytest.raises(ValueError, match="`groups` of `SPDConv` must divide.*groups=4"):
        SPDConv(8, groups=4)(np.zeros((1, 4, 4, 2), "float32"))


def test_a_list_of_tensors_is_refused():
    images = np.zeros((1, 4, 4, 3), "float32")
    with pytest.raises(ValueError, match="one tensor of rank 4"):
        SpaceToDepth()([images, images])


@pytest.mark.slow
def test_quantised_by_keras(rng):
    """`quantize` does not trip over the layers inside; Keras 3.15 quantises the dense layer."""
    images = rng.normal(size=(2, 9, 8, 3)).astype("float32")
    model = keras.Sequential([keras.Input((9, 8, 3)), SPDConv(5), keras.layers.Flatten()])
    model.add(keras.layers.Dense(4))
    before = model.predict(images, verbose=0)
    with pytest.warns(UserWarning, match="does not have a `quantize` method"):
        model.quantize("int8")
    after = model.predict(images, verbose=0)
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()


def test_numpy_integer_scale():
    assert SpaceToDepth(np.int64(3)).get_config()["scale"] == 3


@pytest.mark.slow
def test_a_layer_with_lora_is_saved_and_loaded(rng, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), SPDConv(4, name="spd")])
    model.layers[0].conv.enable_lora(2)
    for weight in model.layers[0].conv.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
    model.save(tmp_path / "lora.keras")
    images = rng.normal(size=(1, 8, 8, 3)).astype("float32")
    loaded = keras.saving.load_model(tmp_path / "lora.keras")
    expected, received = map(keras.ops.convert_to_numpy, (model(images), loaded(images)))
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_frozen_layers_stay_frozen(tmp_path):
    layers = [SPDConv(4), SPDDepthwiseConv(1)]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers])
    for layer in layers:
        layer.trainable = False
    assert not model.trainable_variables
    model.save(tmp_path / "model.keras")
    assert not keras.saving.load_model(tmp_path / "model.keras").trainable_variables
