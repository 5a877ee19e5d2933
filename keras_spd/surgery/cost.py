"""Counts the multiply-adds of a network."""

import math

import keras

from keras_spd import keras_internals


def count_multiply_adds(model: keras.Model) -> int:
    """Counts the multiply-adds of one image in the convolutions and dense layers of a model.

    Args:
        model: Functional Keras model with a known input size.

    Returns:
        Integer. FLOPs, as often reported in papers, are twice as many.

    Raises:
        ValueError: If the input size is unknown.

    Example:

    >>> model = keras_spd.applications.ResNet18SPD(classes=10, input_shape=(32, 32, 3))
    >>> round(keras_spd.surgery.count_multiply_adds(model) / 1e9, 3)
    0.266
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += count_multiply_adds(layer)
        elif kernel := multiply_adds_at(layer):
            first = getattr(layer, "data_format", None) == "channels_first"
            for node in keras_internals.calls(layer):
                shape = node.outputs[0].shape
                positions = shape[2:] if first else shape[1:-1]
                if None in positions:
                    raise ValueError(
                        f"The output size of `{layer.name}` is unknown. Build the model with an "
                        "`input_shape` without `None`."
                    )
                total += math.prod(positions) * kernel
    return total


def multiply_adds_at(layer: keras.layers.Layer) -> int:
    """Returns the multiply-adds of a convolution or dense layer at one position of its output."""
    if isinstance(layer, keras.layers.SeparableConv2D):
        return math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    kernel = getattr(getattr(layer, "conv", layer), "kernel", None)
    return 0 if kernel is None else math.prod(kernel.shape)
