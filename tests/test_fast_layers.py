"""The faster layers compute what Keras' layers compute: outputs, gradients and statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_spd import fast_layers


def train(layer, images, upstream):
    """Returns the output of a training step, and the gradients of images and weights."""

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images, training=True)
            loss = tf.reduce_sum(tf.cast(output, "float32") * upstream)
        return output, tape.gradient(loss, [images, *(v.value for v in layer.trainable_variables)])

    output, gradients = step(tf.constant(images))
    return [np.float32(value) for value in (output, *gradients)]


def assert_same_training(layer, twin, images, rng, tolerance):
    layer.build(images.shape)
    twin.build(images.shape)
    weights = [np.float32(rng.uniform(0.5, 1.5, weight.shape)) for weight in layer.get_weights()]
    layer.set_weights(weights)
    twin.set_weights(weights)
    upstream = rng.normal(0, 1, layer.compute_output_shape(images.shape)).astype("float32")
    ours, theirs = (train(each, images, upstream) for each in (layer, twin))
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()
    for a, b in zip(layer.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}])
def test_batch_norm(dtype, options, rng):
    """Also the moving variance, which the fused operator corrects for the sample's size."""
    images = rng.normal(1, 2, (2, 3, 1, 4)).astype("float32")  # so small that the size matters
    options = {"momentum": 0.8, "dtype": dtype, **options}
    layer = fast_layers.BatchNormalization(**options)
    twin = keras.layers.BatchNormalization(**options)
    assert_same_training(layer, twin, images, rng, 1e-5 if dtype == "float32" else 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", (2, 2)), ("mixed_bfloat16", (8, 5)), ("mixed_bfloat16", (1, 3))]
)
@pytest.mark.parametrize("kernel_size", [1, 3, (3, 5)])
def test_convolution(dtype, size, kernel_size, rng):
    images = rng.normal(0, 1, (3, *size, 4)).astype("float32")
    exact = dtype == "float32"  # the gradient of a bias is a sum, in bfloat16 a rough one
    options = {"padding": "same", "activation": "silu", "use_bias": exact}
    layer = fast_layers.Conv2D(6, kernel_size, dtype=dtype, **options)
    # In float32: in bfloat16, Keras' gradients of kernels differ more from it than ours do.
    twin = keras.layers.Conv2D(6, kernel_size, dtype="float32", **options)
    assert_same_training(layer, twin, images, rng, 1e-5 if exact else 0.02)


@pytest.mark.slow
def test_the_matrix_products_are_used_where_they_are_meant_to_be(monkeypatch, rng):
    calls = []
    convolve = fast_layers._convolve
    monkeypatch.setattr(fast_layers, "_convolve", lambda *x: calls.append(1) or convolve(*x))
    small, large = np.zeros((1, 2, 2, 3), "float32"), np.zeros((1, 9, 9, 3), "float32")
    for images, options, used in (
        (small, {}, 1),
        (large, {}, 0),
        (small, {"strides": 2}, 0),
        (small, {"dilation_rate": 2}, 0),
        (small, {"padding": "valid"}, 0),
        (small, {"groups": 3}, 0),
    ):
        fast_layers.Conv2D(3, 1, **{"padding": "same", **options})(images, training=True)
        assert len(calls) == used, options
        calls.clear()
    fast_layers.Conv2D(3, 1, padding="same")(small)  # inference
    assert not calls


@pytest.mark.parametrize(
    ("layer", "options"),
    [
        (fast_layers.BatchNormalization, {"momentum": 0.5}),
        (fast_layers.Conv2D, {"filters": 3, "kernel_size": 3, "padding": "same"}),
    ],
)
def test_saved_and_loaded(layer, options, rng, tmp_path):
    images = rng.normal(0, 1, (2, 2, 2, 3)).astype("float32")
    model = keras.Sequential([keras.Input((2, 2, 3)), layer(**options)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is layer
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize(
    ("floatx", "policy"), [("float16", "mixed_float16"), ("float64", "float32")]
)
def test_other_default_types(floatx, policy, rng):
    former = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        layer = fast_layers.BatchNormalization(dtype=policy)
        outputs = layer(rng.normal(size=(4, 3, 3, 2)).astype("float32"), training=True)
    finally:
        keras.config.set_floatx(former)
    assert abs(float(keras.ops.mean(keras.ops.cast(outputs, "float32")))) < 1e-2
