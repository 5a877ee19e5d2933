"""Other ways to halve a feature map, instead of the strided convolutions of a detector.

Each function returns a copy of a detector that starts from its weights. `small_objects.py` compares
them with SPD-Conv; the library has no options for them.
"""

from keras_spd import to_spd
from keras_spd.layers import SpaceToDepth, SPDConv
from keras_spd.surgery.graph import rebuild, walk
from keras_spd.surgery.to_spd import with_network

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="keras_spd_benchmarks")
class BlurPool(keras.layers.Layer):
    """A binomial 3x3 low-pass filter at every second pixel (Zhang, 2019, arXiv:1904.11486)."""

    def call(self, x):
        taps = np.outer([1, 2, 1], [1, 2, 1]) / 16
        channels = x.shape[-1]
        kernel = np.broadcast_to(taps[..., None, None], (3, 3, channels, 1))
        kernel = ops.convert_to_tensor(kernel, x.dtype)
        return ops.depthwise_conv(x, kernel, strides=2, padding="same")

    def compute_output_shape(self, shape):
        halves = (side and -(-side // 2) for side in shape[1:3])
        return (shape[0], *halves, shape[3])


@keras.saving.register_keras_serializable(package="keras_spd_benchmarks")
class HaarMix(keras.layers.Layer):
    """Turns the four phases of a space-to-depth into the four bands of a Haar wavelet."""

    def call(self, x):
        *sides, channels = ops.shape(x)
        x = ops.reshape(x, (*sides, 4, channels // 4))
        x = ops.einsum("bhwpc,qp->bhwqc", x, ops.convert_to_tensor(HAAR, x.dtype))
        return ops.reshape(x, (*sides, channels))

    def compute_output_shape(self, shape):
        return shape


# Orthogonal: average, horizontal, vertical and diagonal detail of the phases in row order.
HAAR = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2


def _replaced(detector, replace):
    """Copies a detector; `replace` returns `(new layers, assign)` for a layer, or `None`."""
    found = {id(layer): replace(layer) for _, layer in walk(detector.network)}
    found = {key: replacement for key, replacement in found.items() if replacement}
    network = rebuild(detector.network, {key: layers for key, (layers, _) in found.items()})
    for _, assign in found.values():
        assign()
    return with_network(detector, network)


def _behind(detector, pool):
    """Runs strided convolutions at every pixel, each followed by a layer that downsamples."""

    def replace(layer):
        if not isinstance(layer, keras.layers.Conv2D) or layer.strides != (2, 2):
            return None
        config = {**layer.get_config(), "strides": (1, 1), "name": f"{layer.name}_everywhere"}
        conv = type(layer).from_config(config)
        return (conv, pool(name=layer.name)), lambda: conv.set_weights(layer.get_weights())

    return _replaced(detector, replace)


def blur_pool(detector):
    """Convolution, then a low-pass filter at every second pixel."""
    return _behind(detector, BlurPool)


def max_pool(detector):
    """Convolution, then 2x2 max pooling."""
    return _behind(detector, lambda name: keras.layers.MaxPooling2D(2, padding="same", name=name))


def haar(detector):
    """Space-to-depth, Haar wavelet, convolution: computes what the strided network computes."""

    def replace(layer):
        if not isinstance(layer, SPDConv):
            return None
        config = {**layer.conv.get_config(), "name": layer.name}
        conv = type(layer.conv).from_config(config)
        phases = SpaceToDepth(layer.space_to_depth.scale, name=f"{layer.name}_spd")
        mix = HaarMix(name=f"{layer.name}_haar")

        def assign():
            kernel = np.array(layer.conv.kernel)
            rows, columns, channels, filters = kernel.shape
            kernel = kernel.reshape(rows, columns, 4, channels // 4, filters)
            kernel = np.einsum("qp,rspcf->rsqcf", HAAR, kernel).reshape(rows, columns, -1, filters)
            conv.set_weights([kernel, *layer.conv.get_weights()[1:]])

        return (phases, mix, conv), assign

    return _replaced(to_spd(detector), replace)
