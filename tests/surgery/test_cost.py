"""Multiply-adds are those that TensorFlow's own profiler counts."""

import keras
import pytest
import tensorflow as tf
from tensorflow.python.profiler import model_analyzer, option_builder

import keras_spd
from keras_spd.surgery import count_multiply_adds

L = keras.layers


def profiled(model):
    """Half the FLOPs that TensorFlow counts in the model's graph, without biases."""
    function = tf.function(lambda images: model(images)).get_concrete_function(
        tf.TensorSpec((1, *model.input_shape[1:]))
    )
    options = option_builder.ProfileOptionBuilder(
        option_builder.ProfileOptionBuilder.float_operation()
    )
    options = options.with_empty_output().with_node_names(start_name_regexes=[".*"])
    report = model_analyzer.profile(function.graph, options=options.order_by("float_ops").build())
    return report.total_float_ops // 2


def chain(*layers, shape=(8, 8, 4)):
    inputs = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def twice(layer):
    inputs = keras.Input((8, 8, 4))
    return keras.Model(inputs, layer(layer(inputs)))


MODELS = {
    "same": lambda: chain(L.Conv2D(6, 3, 2, padding="same", use_bias=False)),
    "valid": lambda: chain(L.Conv2D(6, 3, use_bias=False)),
    "transposed": lambda: chain(L.Conv2DTranspose(6, 3, 2, padding="same", use_bias=False)),
    "depthwise": lambda: chain(L.DepthwiseConv2D(3, 2, padding="same", use_bias=False)),
    "separable": lambda: chain(L.SeparableConv2D(5, 3, padding="same", use_bias=False)),
    "spd": lambda: chain(keras_spd.layers.SPDConv(6, 3, use_bias=False)),
    "dense": lambda: chain(L.Flatten(), L.Dense(3, use_bias=False)),
    "shared layer": lambda: twice(L.Conv2D(4, 3, padding="same", use_bias=False)),
    "shared model": lambda: twice(chain(L.Conv2D(4, 3, padding="same", use_bias=False))),
    "sequential": lambda: keras.Sequential(
        [keras.Input((8, 8, 4)), L.Conv2D(4, 3, use_bias=False), L.Conv2D(2, 1, use_bias=False)]
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_counts_as_tensorflow_does(name):
    model = MODELS[name]()
    assert count_multiply_adds(model) == profiled(model) > 0


def test_groups():  # TensorFlow's profiler does not count grouped convolutions
    model = chain(L.Conv2D(6, 3, groups=2, use_bias=False))
    assert count_multiply_adds(model) == 6 * 6 * 9 * (4 // 2) * 6


def test_calls_outside_the_model_do_not_count():
    layer = L.Conv2D(4, 3, padding="same")
    model = chain(layer)
    counted = count_multiply_adds(model)
    layer(keras.Input((32, 32, 4)))
    assert count_multiply_adds(model) == counted


@pytest.mark.slow
def test_a_detector_counts_as_its_network(thin_networks):
    options = {"input_shape": (64, 64, 3), "classes": 1, "levels": ("P3",)}
    detector = keras_spd.applications.YOLOV5SPD("n", **options)
    assert count_multiply_adds(detector) == count_multiply_adds(detector.network) > 0


class _Subclassed(keras.Model):
    pass


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: chain(L.Conv2D(4, 3), shape=(None, None, 3)), "without `None`"),
        (_Subclassed, "subclassed model"),
        (lambda: "a.keras", "A Keras model is needed. Received: 'a.keras'"),
        (lambda: keras.Sequential([L.Conv2D(4, 3)]), "not built"),
    ],
)
def test_what_cannot_be_counted(make, words):
    with pytest.raises(ValueError, match=words):
        count_multiply_adds(make())


def test_plain_operations():
    inputs = keras.Input((8, 8, 4))
    x = L.Conv2D(4, 1)(inputs)
    added = keras.Model(inputs, (inputs + x)[:, :4] * 2)
    assert count_multiply_adds(added) == 8 * 8 * 16
    product = keras.Model(inputs, keras.ops.einsum("bhwc,bhwd->bhcd", x, x))
    with pytest.raises(ValueError, match="operation `einsum.*` are unknown"):
        count_multiply_adds(product)


def test_a_model_of_any_size():
    layers = (L.Conv2D(6, 3, 2, padding="same"), keras_spd.layers.SPDConv(6, 3, padding="same"))
    expected = count_multiply_adds(chain(*layers, shape=(8, 16, 4)))
    assert count_multiply_adds(chain(*layers, shape=(None, None, 4)), (8, 16)) == expected
    assert count_multiply_adds(chain(*layers, shape=(8, 16, 4)), (64, 64)) == expected  # its own


def test_channels_first():
    options = {"padding": "same", "use_bias": False, "data_format": "channels_first"}
    model = chain(L.Conv2D(6, 3, 2, **options), shape=(4, 8, 10))
    assert count_multiply_adds(model) == 4 * 5 * 9 * 4 * 6


def test_a_nested_model_of_any_size():
    inner = chain(L.Conv2D(6, 3, padding="same"), shape=(None, None, 4))
    expected = count_multiply_adds(chain(L.Conv2D(6, 3, padding="same")))
    assert count_multiply_adds(chain(inner)) == expected


class _Two(L.Layer):
    """Two convolutions, one of them called `conv`."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = (L.Conv2D(4, 3, padding="same") for _ in range(2))

    def call(self, x):
        return self.other(self.conv(x))


@pytest.mark.parametrize(
    "layer", [_Two, lambda: L.TimeDistributed(L.Conv1D(4, 3)), lambda: L.MultiHeadAttention(2, 4)]
)
def test_layers_with_unknown_ones_inside_are_refused(layer):
    inputs = keras.Input((8, 8, 4))
    built = layer()
    outputs = built(inputs, inputs) if isinstance(built, L.MultiHeadAttention) else built(inputs)
    with pytest.raises(ValueError, match="multiply-adds of .* are unknown: it has .* inside it"):
        count_multiply_adds(keras.Model(inputs, outputs))
