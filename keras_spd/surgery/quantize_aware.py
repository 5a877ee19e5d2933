"""Prepares networks for training with the rounding of int8: of kernels and of activations."""

from collections.abc import Collection, Iterator
from typing import Any

import keras
from keras import ops

from keras_spd import fast_layers, keras_internals
from keras_spd.detection.detector import Detector
from keras_spd.surgery import graph
from keras_spd.surgery.fold import fold
from keras_spd.surgery.to_spd import with_network
from keras_spd.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_spd")
class Range(keras.layers.Layer):
    """Rounds activations to the 256 steps of a range that tracks them in training.

    Args:
        momentum: Float, the weight of the former range in the moving averages of the smallest and
            the largest value. The first batch sets the range; until then, values are unchanged.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, momentum: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum

    def build(self, input_shape: Any) -> None:
        options: dict[str, Any] = {"shape": (), "initializer": "zeros", "trainable": False}
        options |= {"dtype": "float32", "autocast": False, "aggregation": "mean"}  # over devices
        self.low = self.add_weight(name="low", **options)
        self.high = self.add_weight(name="high", **options)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
        if training and self.trainable:
            values = ops.stop_gradient(inputs)
            found = ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0)
            keep = ops.where(high > low, self.momentum, 0.0)
            low = keep * low + (1 - keep) * found[0]
            high = keep * high + (1 - keep) * found[1]
            self.low.assign(low)
            self.high.assign(high)
        return ops.where(high > low, _rounded(inputs, low, high), inputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}


def _rounded(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Rounds to int8 as the quantizer does. Gradients pass where values are in the range."""
    scale = ops.maximum(high - low, 1e-9) / 255
    zero = ops.round(-128 - low / scale)
    inside = ops.clip(values, (-128 - zero) * scale, (127 - zero) * scale)
    rounded = (ops.clip(ops.round(values / scale + zero), -128, 127) - zero) * scale
    return inside + ops.stop_gradient(rounded - inside)


def _rounded_kernel(kernel: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Rounds each output channel to 255 steps, symmetric around zero."""
    largest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
    scale = ops.stop_gradient(ops.maximum(largest, 1e-9) / 127)
    rounded = ops.clip(ops.round(kernel / scale), -127, 127) * scale
    return kernel + ops.stop_gradient(rounded - kernel)


@keras.saving.register_keras_serializable(package="keras_spd")
class QuantizedConv2D(keras.layers.Conv2D):
    """`Conv2D` with its kernel rounded to 8 bits."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return super().convolution_op(inputs, _rounded_kernel(kernel, (0, 1, 2)))


@keras.saving.register_keras_serializable(package="keras_spd")
class QuantizedDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`DepthwiseConv2D` with its kernel rounded to 8 bits."""

    def call(self, inputs: Tensor) -> Tensor:
        outputs = ops.depthwise_conv(
            inputs,
            _rounded_kernel(ops.convert_to_tensor(self.kernel), (0, 1)),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@keras.saving.register_keras_serializable(package="keras_spd")
class QuantizedDense(keras.layers.Dense):
    """`Dense` with its kernel rounded to 8 bits."""

    def call(self, inputs: Tensor) -> Tensor:
        outputs = ops.matmul(inputs, _rounded_kernel(ops.convert_to_tensor(self.kernel), (0,)))
        return self.activation(outputs + self.bias if self.use_bias else outputs)


_QUANTIZED: dict[Any, Any] = {
    keras.layers.Conv2D: QuantizedConv2D,
    fast_layers.Conv2D: QuantizedConv2D,
    keras.layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    keras.layers.Dense: QuantizedDense,
}
_PLAIN: dict[Any, Any] = {
    QuantizedConv2D: keras.layers.Conv2D,
    QuantizedDepthwiseConv2D: keras.layers.DepthwiseConv2D,
    QuantizedDense: keras.layers.Dense,
}
# Layers whose outputs get a range. Space-to-depth and max pooling only move values, LiteRT gives
# average pooling the range of its input, and the outputs of other layers that compute, such as
# `LeakyReLU`, are only rounded in the file.
_COMPUTING = (
    *_QUANTIZED,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Concatenate,
    keras.layers.GlobalAveragePooling2D,
)
_FUSED = (keras.activations.relu, keras.activations.relu6)
# LiteRT fixes the ranges of these, which are 256 steps of the values that they can have.
_FIXED = (keras.activations.sigmoid, keras.activations.tanh, keras.activations.softmax)


def quantize_aware(model: keras.Model) -> keras.Model:
    """Converts a trained network so that training adapts it to 8 bits.

    The network is folded (`keras_spd.fold`): batch norms become part of the convolutions. Kernels
    are rounded to 8 bits for each output channel, and activations to 256 steps of a range that
    tracks them in training. `export_tflite(quantization="int8")` uses these ranges instead of
    measured ones, so the file computes what was trained, except for the rounding inside
    operators. The outputs of some layers, such as `LeakyReLU`, have no range: they are
    rounded in the file, but not in training, and so are the kernels of separable and transposed
    convolutions. The last layer before each output has a rounded
    kernel and returns floats.

    Train it with a small learning rate for a few epochs, in float32.

    Args:
        model: Trained functional or Sequential model, or `Detector`, with channels last. It is not
            changed.

    Returns:
        An uncompiled model: a `Detector`, `ImageModel` or Sequential model if `model` is one,
        otherwise a `keras.Model`.

    Raises:
        ValueError: If the model is not as described, or is quantisation-aware already.

    Example:

    >>> model = keras_spd.quantize_aware(keras_spd.applications.YOLOV5SPD("n", weights="bccd"))
    >>> keras_spd.training.train(recipe, "runs/int8", model=model)

    Reference: Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018, https://arxiv.org/abs/1712.05877.
    """
    if not isinstance(model, Detector):
        graph.check_graph(model, "quantize_aware")
    if is_quantize_aware(model):
        raise ValueError(f"`{model.name}` is quantisation-aware already.")
    if isinstance(model, Detector):
        return with_network(model, quantize_aware(model.network))
    folded = fold(model)
    sequences: dict[int, list[keras.layers.Layer]] = {}
    last = set(map(id, _last_layers(folded)))
    for part in graph.graphs(folded):
        ranged = set(map(id, _ranged(part, last)))
        for layer in part.layers:
            kind = _QUANTIZED.get(type(layer))
            if kind is None and id(layer) not in ranged:
                continue
            if getattr(layer, "data_format", None) == "channels_first":
                raise ValueError(
                    f"`quantize_aware` takes models with channels last. `{layer.name}` in "
                    f"`{model.name}` has channels first."
                )
            new = (kind or type(layer)).from_config(layer.get_config())
            ranges = [Range(name=f"{layer.name}_range")] if id(layer) in ranged else []
            sequences[id(layer)] = [new, *ranges]
    return _rebuild(folded, sequences)


def is_quantize_aware(model: keras.Model) -> bool:
    """Returns whether a model has layers of `quantize_aware`."""
    return any(
        isinstance(layer, (Range, *_PLAIN)) for layer in keras_internals.nested_layers(model)
    )


def without_ranges(model: keras.Model) -> tuple[keras.Model, dict[str, tuple[float, float]]]:
    """Returns the plain model of a quantisation-aware one, and the ranges of its activations.

    Layers with a range are renamed, so that no such name is part of another layer's name.

    Returns:
        Model of the same class; and a dictionary from the name of a layer to the smallest and the
        largest value that it returns.
    """
    if isinstance(model, Detector):
        network, ranges = without_ranges(model.network)
        return with_network(model, network), ranges
    ranges = {}
    sequences: dict[int, list[keras.layers.Layer]] = {}
    for part in graph.graphs(model):
        connections = graph.Connections(part)
        for layer in part.layers:
            if isinstance(layer, Range):
                sequences[id(layer)] = []
                continue
            after = connections.only_consumer(layer)
            config = layer.get_config()
            if isinstance(after, Range):
                config["name"] = f"{layer.name}-range{len(ranges)}"
                ranges[config["name"]] = (float(after.low), float(after.high))
            if isinstance(after, Range) or type(layer) in _PLAIN:
                sequences[id(layer)] = [_PLAIN.get(type(layer), type(layer)).from_config(config)]
    return _rebuild(model, sequences), ranges


def _rebuild(model: keras.Model, sequences: dict[int, list[keras.layers.Layer]]) -> keras.Model:
    """Replaces layers, and copies their weights to the first layer of each sequence."""
    found = graph.rebuild(model, sequences)
    for _, layer in graph.walk(model):
        if sequences.get(id(layer)) and layer.weights:
            sequences[id(layer)][0].set_weights(layer.get_weights())
    return found


def _ranged(model: keras.Model, last: Collection[int]) -> Iterator[keras.layers.Layer]:
    """Yields the layers of one graph whose outputs are rounded; not those with an id in `last`."""
    connections = graph.Connections(model)
    for layer in model.layers:
        if not isinstance(layer, _COMPUTING) or id(layer) in last:
            continue
        if len(connections.calls(layer)) != 1 or not _is_one_operator(layer):
            continue
        if isinstance(layer, keras.layers.Activation) and layer.activation in _FIXED:
            continue
        takers = connections.all_consumers(layer)
        fused = len(takers) == 1 and type(layer) in _QUANTIZED and _is_relu(takers[0])
        joined = takers and all(isinstance(taker, keras.layers.Concatenate) for taker in takers)
        if not fused and not joined:  # a concatenation's inputs are rounded to its steps
            yield layer


def _last_layers(model: keras.Model) -> Iterator[Any]:
    """Yields the layers between the last kernels and the outputs, and these last kernels."""
    connections = graph.Connections(model)
    pending = [keras_internals.origin(tensor)[0] for tensor in model.outputs]
    while pending:
        layer = pending.pop()
        if layer is None:
            continue
        inside = list(_last_layers(layer)) if graph.is_graph(layer) else [layer]
        yield from inside
        if isinstance(layer, keras.layers.Concatenate):  # boxes and classes of a decoupled head
            for call in connections.calls(layer):
                pending += [keras_internals.origin(tensor)[0] for tensor in call.input_tensors]
        elif not any(type(one) in _QUANTIZED for one in inside):
            pending.append(connections.producer(layer))


def _is_one_operator(layer: keras.layers.Layer) -> bool:
    """Returns whether the file computes a layer and its own activation in one operator."""
    linear = (keras.activations.linear, *_FUSED)
    return type(layer) not in _QUANTIZED or layer.activation in linear


def _is_relu(layer: Any) -> bool:
    """Returns whether the file computes an activation layer in the operator before it."""
    if isinstance(layer, keras.layers.Activation):
        return layer.activation in _FUSED
    if type(layer) is not keras.layers.ReLU or layer.negative_slope or layer.threshold:
        return False
    return layer.max_value in (None, 6)
