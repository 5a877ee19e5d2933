"""What a network costs."""

import keras
import numpy as np

from keras_spd.layers import SPDConv


def count_multiply_adds(model):
    """Counts the multiply-adds of one image in the convolutions and dense layers of a model.

    Args:
        model: Functional Keras model of known input size. (FLOPs, as papers often count them, are
            twice as many.)

    Returns:
        Integer.

    Raises:
        ValueError: If the input size is not known.

    Example:

    >>> model = keras_spd.applications.ResNet18SPD(classes=10, input_shape=(32, 32, 3))
    >>> round(keras_spd.benchmark.count_multiply_adds(model) / 1e9, 3)
    0.266
    """
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += count_multiply_adds(layer)
        elif isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D, SPDConv)):
            kernel = layer.conv.kernel if isinstance(layer, SPDConv) else layer.kernel
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                raise ValueError(f"`{layer.name}`: depthwise convolutions are not counted yet.")
            positions = layer.output.shape[1:-1]
            if None in positions:
                raise ValueError(
                    f"The output size of `{layer.name}` is not known: build the model with an "
                    "`input_shape` without `None`."
                )
            total += int(np.prod(positions, dtype=int)) * int(np.prod(kernel.shape))
    return total
