"""Counts the multiply-adds of a network."""

import math
from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.detection.detector import Detector
from keras_spd.images.sizes import check_image_size
from keras_spd.layers import SPDConv
from keras_spd.surgery import graph
from keras_spd.surgery.layers import SPDDepthwiseConv

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
# Operations of `keras.ops` that multiply and add, as convolutions and dense layers do.
_PRODUCTS = (
    "Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv",
    "Matmul", "Dot", "Einsum", "Tensordot", "Inner",
)  # fmt: skip


def count_multiply_adds(
    model: keras.Model | Detector, image_size: int | tuple[int, int] | None = None
) -> int:
    """Counts the multiply-adds of one image in the convolutions and dense layers of a model.

    Args:
        model: Functional or Sequential Keras model, or a `Detector` on such a network.
        image_size: Integer or `(height, width)`, for a model that takes images of any size; others
            have their own.

    Returns:
        Integer. FLOPs, as often reported in papers, are twice as many.

    Raises:
        ValueError: If the input size is unknown; the model or a nested one is subclassed or not
            built; or a layer has convolutions or dense layers inside it, or an operation computes
            products, whose sizes are unknown.

    Example:

    >>> model = keras_spd.applications.ResNet18SPD(classes=10, input_shape=(32, 32, 3))
    >>> round(keras_spd.surgery.count_multiply_adds(model) / 1e9, 3)
    0.266
    """
    if isinstance(model, Detector):
        model = model.network
    if not isinstance(model, keras.Model):
        raise ValueError(f"A Keras model is needed. Received: {model!r}.")
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"`{model.name}` is not built. Add a `keras.Input`, or call `build(input_shape)`."
        )
    if not graph.is_graph(model):
        raise ValueError(
            f"`{model.name}` is a subclassed model, whose connections are unknown. Pass a "
            "functional or Sequential model."
        )
    shape = model.input_shape[1:]
    if image_size is not None and shape.count(None) == 2:  # height and width, wherever they are
        sides = iter(check_image_size(image_size))
        model = graph.resize(model, [next(sides) if side is None else side for side in shape])
    return sum(_multiply_adds_of(call) for call in keras_internals.graph_calls(model))


def _multiply_adds_of(call: Any) -> int:
    """Returns the multiply-adds of one call of a layer or nested model."""
    layer = call.operation
    if isinstance(layer, keras.Model):
        shapes = [tuple(tensor.shape[1:]) for tensor in call.input_tensors]
        known = graph.is_graph(layer) and len(shapes) == 1 and None not in shapes[0]
        if known and None in layer.input_shape[1:]:
            layer = graph.resize(layer, shapes[0])
        return count_multiply_adds(layer)
    if not isinstance(layer, keras.layers.Layer):  # a plain operation, such as `x + y`
        if type(layer).__name__ in _PRODUCTS:
            raise ValueError(
                f"The multiply-adds of the operation `{layer.name}` are unknown. Counted are those "
                "of layers."
            )
        return 0
    kernel = multiply_adds_at(layer)
    if not kernel:
        inside = [part for part in keras_internals.nested_layers(layer) if hasattr(part, "kernel")]
        if inside:
            raise ValueError(
                f"The multiply-adds of `{layer.name}` ({type(layer).__name__}) are unknown: it has "
                f"`{inside[0].name}` inside it."
            )
        return 0
    # A transposed convolution applies its kernel at every position of its input.
    shape = (call.input_tensors if isinstance(layer, _TRANSPOSED) else call.outputs)[0].shape
    first = getattr(layer, "data_format", None) == "channels_first"
    positions = shape[2:] if first else shape[1:-1]
    if None in positions:
        raise ValueError(
            f"The size at `{layer.name}` is unknown. Pass `image_size=(height, width)`, or build "
            "the model with an `input_shape` without `None`."
        )
    return math.prod(positions) * kernel


def multiply_adds_at(layer: keras.layers.Layer) -> int:
    """Returns the multiply-adds of a convolution or dense layer at one position.

    Args:
        layer: Built layer.

    Returns:
        Integer; 0 for other layers. Positions are those of the layer's output; for a transposed
        convolution, those of its input.

    Example:

    >>> model = keras_spd.applications.ResNet18SPD(classes=10)
    >>> keras_spd.surgery.multiply_adds_at(model.get_layer("stem_conv"))
    """
    if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
        return math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    own = layer.conv if isinstance(layer, (SPDConv, SPDDepthwiseConv)) else layer
    kernel = getattr(own, "kernel", None)
    return 0 if kernel is None else math.prod(kernel.shape)
