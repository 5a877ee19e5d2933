"""Folds a trained network for inference: fewer and cheaper layers, the same outputs."""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_spd import fast_layers, keras_internals
from keras_spd.algebra import spd_to_strided
from keras_spd.detection.detector import Detector
from keras_spd.layers import SpaceToDepth, SPDConv
from keras_spd.surgery import graph
from keras_spd.surgery.layers import Channels, PhaseAlignment, PhasePooling, SPDDepthwiseConv
from keras_spd.surgery.to_spd import with_network
from keras_spd.surgery.trimming import cut, original_offset, trim
from keras_spd.typing import Array, Shape, Tensor

# Compared by `type`: a subclass may compute something else.
_CONVOLUTIONS = (keras.layers.Conv2D, fast_layers.Conv2D)
_BATCH_NORMS = (keras.layers.BatchNormalization, fast_layers.BatchNormalization)
# Activations of each value by itself, so that convolutions with them can share a layer.
_POINTWISE = tuple(
    getattr(keras.activations, name)
    for name in (
        *("linear", "relu", "relu6", "silu", "sigmoid", "tanh", "gelu", "elu", "leaky_relu"),
        *("hard_sigmoid", "hard_silu", "mish", "selu", "softplus", "softsign", "exponential"),
    )
)


def fold(model: keras.Model) -> keras.Model:
    """Rewrites a trained network for inference without changing its outputs.

    - SPD-Conv becomes the equivalent strided convolution, and zero borders of its kernel are
      removed. A network from `to_spd` that was not trained further gets its original convolutions
      back.
    - Convolutions after a space-to-depth become strided ones. Several of the same kind after one
      space-to-depth become a single convolution.
    - Batch norms directly after a convolution are merged into it. Other batch norms are kept, as
      are subclasses of Keras' layers, which may compute something else.
    - `PhasePooling` becomes strided pooling.

    A space-to-depth after a convolution, as in the ResNets, is kept: it moves data but computes
    nothing.

    Args:
        model: Functional or Sequential Keras model, which may contain nested models, or a
            `keras_spd.applications.Detector`. It is not changed.

    Returns:
        An uncompiled model: a `Detector`, `ImageModel` or Sequential model if `model` is one,
        otherwise a `keras.Model`. It is for inference only, because its batch norms are folded.

    Raises:
        ValueError: If the model is not as described.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", weights="bccd")
    >>> fast = keras_spd.fold(model)

    Source: the two identities in `keras_spd.algebra`, and standard batch norm folding.
    """
    if isinstance(model, Detector):
        return with_network(model, fold(model.network))
    graph.check_graph(model, "fold")
    parts = graph.graphs(model)
    counts = collections.Counter(id(layer) for part in parts for layer in graph.operations(part))
    shared = {key for key, count in counts.items() if count > 1}
    folding = _Folding(shared, _called_in_training(parts))
    for part in parts:
        folding.add(part)
    return folding.apply(model)


@dataclasses.dataclass
class _Convolution:
    """A convolution while it is being folded.

    Args:
        layer: The original layer, which provides name, activation and data format.
        kernel: float64 array of shape `(height, width, inputs, outputs)`.
        bias: Array, or `None`.
        strides: Integer or pair of integers.
        padding: `"same"`, `"valid"`, or pixels `((top, bottom), (left, right))`.
        depthwise: Whether it is a depthwise convolution.
    """

    layer: keras.layers.Layer
    kernel: np.ndarray
    bias: np.ndarray | None
    strides: int | tuple
    padding: str | tuple
    depthwise: bool = False

    @property
    def source(self) -> keras.layers.Layer:
        """The Keras convolution: the layer itself, or the one inside an SPD-Conv."""
        return getattr(self.layer, "conv", self.layer)

    def build(self, name: str | None = None) -> tuple[list[keras.layers.Layer], Callable[[], None]]:
        """Returns the new layers, and a function that assigns their weights."""
        layers, padding = [], self.padding
        shared = {
            "data_format": self.source.data_format,
            "dtype": self.layer.dtype_policy,
        }
        name = name or self.layer.name
        if not isinstance(padding, str):
            layers.append(keras.layers.ZeroPadding2D(padding, name=f"{name}_pad", **shared))
            padding = "valid"
        shared |= {
            "name": name,
            "strides": self.strides,
            "padding": padding,
            "dilation_rate": self.source.dilation_rate,
            "activation": _activation(self.layer),
            "use_bias": self.bias is not None,
        }
        height, width, _, outputs = self.kernel.shape
        if self.depthwise:
            conv = keras.layers.DepthwiseConv2D((height, width), depth_multiplier=outputs, **shared)
        else:
            groups = getattr(self.source, "groups", 1)
            conv = keras.layers.Conv2D(outputs, (height, width), groups=groups, **shared)
        layers.append(conv)

        def assign() -> None:
            conv.kernel.assign(self.kernel)
            if self.bias is not None:
                conv.bias.assign(self.bias)

        return layers, assign


def _called_in_training(parts: list[keras.Model]) -> set[int]:
    """Returns the `id` of each nested model that is called with `training=True`, and its own."""
    return {
        id(inner)
        for part in parts
        for call in keras_internals.graph_calls(part)
        if graph.is_graph(call.operation) and call.arguments.kwargs.get("training")
        for inner in graph.graphs(call.operation)
    }


class _Folding:
    """The convolutions and replaced layers of a model and its nested models.

    Args:
        shared: `id` of each layer that belongs to several of them. Such layers are not folded: what
            follows them differs.
        training: `id` of each of them whose batch norms normalise with the batch's statistics.
    """

    def __init__(self, shared: set[int], training: set[int]) -> None:
        self.shared, self.training = shared, training
        self.convolutions: dict[int, _Convolution] = {}
        self.sequences: dict[int, list[keras.layers.Layer]] = {}
        self.assigns: list[Callable[[], None]] = []

    def add(self, model: keras.Model) -> None:
        """Folds one graph, but not its nested models."""
        connections = graph.Connections(model)
        own = (layer for layer in graph.operations(model) if id(layer) not in self.shared)
        layers = [layer for layer in own if connections.calls(layer)]
        self.convolutions |= {id(layer): found for layer in layers if (found := _read(layer))}
        for layer in layers:
            if type(layer) is SpaceToDepth:
                self._space_to_depth(layer, connections)
            elif type(layer) is PhasePooling:
                self.sequences[id(layer)] = [_strided_pooling(layer)]
            elif id(layer) in self.convolutions and hasattr(layer, "space_to_depth"):
                self._spd_conv(layer, connections)
        for layer in layers:
            if type(layer) in _BATCH_NORMS and id(model) not in self.training:
                self._batch_norm(layer, connections)
        for layer in layers:
            if type(layer) is SpaceToDepth and id(layer) in self.sequences:
                self._merge(layer, connections)

    def apply(self, model: keras.Model) -> keras.Model:
        for key, convolution in self.convolutions.items():
            if key not in self.sequences:
                layers, assign = convolution.build()
                self.sequences[key] = layers
                self.assigns.append(assign)
        folded = graph.rebuild(model, self.sequences)
        for assign in self.assigns:
            assign()
        return folded

    def _spd_conv(self, layer: keras.layers.Layer, connections: graph.Connections) -> None:
        convolution = self.convolutions[id(layer)]
        scale, conv = layer.space_to_depth.scale, layer.conv
        blocks = convolution.kernel.shape[:2]
        convolution.kernel = spd_to_strided(convolution.kernel, scale)
        convolution.strides = scale
        shapes = graph.input_shapes(layer)
        before = connections.producer(layer)
        if type(before) is PhaseAlignment and connections.only_consumer(before) is layer:
            offset = original_offset(convolution.kernel, before, blocks, scale)
            if offset is not None:
                convolution.kernel = cut(convolution.kernel, offset, before.kernel_size)
                convolution.padding = before.padding
                self.sequences[id(before)] = []
                return
        sides = _sides(shapes, conv.data_format)
        convolution.kernel, convolution.padding = trim(
            convolution.kernel, scale, blocks, conv.padding, sides
        )

    def _space_to_depth(self, layer: keras.layers.Layer, connections: graph.Connections) -> None:
        consumers = connections.consumers(layer)
        convolutions = [
            self.convolutions[id(consumer)]
            for consumer in consumers
            if id(consumer) in self.convolutions and _can_absorb(consumer)
        ]
        if not consumers or len(convolutions) < len(consumers):
            return
        sides = _sides(graph.input_shapes(layer), layer.data_format)
        for convolution in convolutions:
            blocks = convolution.kernel.shape[:2]
            kernel = spd_to_strided(convolution.kernel, layer.scale)
            convolution.strides = layer.scale
            convolution.kernel, convolution.padding = trim(
                kernel, layer.scale, blocks, convolution.layer.padding, sides
            )
        self.sequences[id(layer)] = []

    def _batch_norm(self, layer: keras.layers.Layer, connections: graph.Connections) -> None:
        before = connections.producer(layer)
        convolution = self.convolutions.get(id(before))
        if convolution is None or connections.only_consumer(before) is not layer:
            return
        if connections.calls(layer)[0].arguments.kwargs.get("training"):
            return  # it normalises with the statistics of the batch, always
        if layer.dtype_policy.name != before.dtype_policy.name:
            return  # the outputs would have another type
        first = convolution.source.data_format == "channels_first"
        axis = layer.axis % 4
        if axis != (1 if first else 3) or _activation(before) is not keras.activations.linear:
            return
        values = {weight.name: _float64(weight) for weight in layer.weights}
        gain = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + layer.epsilon)
        shift = values.get("beta", 0.0) - values["moving_mean"] * gain
        kernel = convolution.kernel
        outputs = gain.reshape(kernel.shape[2:]) if convolution.depthwise else gain
        convolution.kernel = kernel * outputs
        convolution.bias = shift + (0 if convolution.bias is None else convolution.bias * gain)
        self.sequences[id(layer)] = []

    def _merge(self, layer: keras.layers.Layer, connections: graph.Connections) -> None:
        """Merges several convolutions that follow the same space-to-depth."""
        convolutions = [self.convolutions[id(other)] for other in connections.consumers(layer)]
        alike = {
            (
                *(c.kernel.shape[:3], c.padding, c.source.data_format),
                *(_activation(c.layer), c.layer.dtype_policy.name),
            )
            for c in convolutions
        }
        pointwise = all(_activation(c.layer) in _POINTWISE for c in convolutions)
        if len(convolutions) < 2 or len(alike) > 1 or not pointwise:
            return
        biases = [np.zeros(c.kernel.shape[3]) if c.bias is None else c.bias for c in convolutions]
        merged = dataclasses.replace(
            convolutions[0],
            kernel=np.concatenate([c.kernel for c in convolutions], axis=3),
            bias=np.concatenate(biases),
        )
        self.sequences[id(layer)], assign = merged.build(f"{layer.name}_conv")
        self.assigns.append(assign)
        start = 0
        for convolution in convolutions:
            stop = start + convolution.kernel.shape[3]
            channels = Channels(
                start,
                stop,
                data_format=convolution.source.data_format,
                dtype=convolution.layer.dtype_policy,
                name=convolution.layer.name,
            )
            self.sequences[id(convolution.layer)] = [channels]
            start = stop


def _read(layer: keras.layers.Layer) -> _Convolution | None:
    """Returns a layer as a `_Convolution`, or `None` if it is not one."""
    if type(layer) in (*_CONVOLUTIONS, keras.layers.DepthwiseConv2D):
        depthwise, conv = isinstance(layer, keras.layers.DepthwiseConv2D), layer
    elif type(layer) in (SPDConv, SPDDepthwiseConv):
        depthwise, conv = isinstance(layer, SPDDepthwiseConv), layer.conv
    else:
        return None
    dilated = conv is not layer and max(conv.dilation_rate) > 1
    if not layer.built or dilated or getattr(conv, "quantization_mode", None):
        return None
    bias = layer.bias if isinstance(layer, SPDDepthwiseConv) and layer.use_bias else None
    bias = conv.bias if conv.use_bias else bias
    return _Convolution(
        layer,
        _float64(conv.kernel),
        None if bias is None else _float64(bias),
        conv.strides,
        conv.padding,
        depthwise,
    )


def _strided_pooling(layer: PhasePooling) -> keras.layers.Layer:
    kinds = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
    return kinds[layer.mode](
        layer.pool_size,
        layer.scale,
        layer.padding,
        data_format=layer.data_format,
        dtype=layer.dtype_policy,
        name=layer.name,
    )


def _can_absorb(layer: keras.layers.Layer) -> bool:
    """Returns whether a space-to-depth before a layer can become its stride."""
    return (
        type(layer) in _CONVOLUTIONS
        and layer.groups == 1
        and tuple(layer.strides) == tuple(layer.dilation_rate) == (1, 1)
    )


def _sides(shapes: list[Shape], data_format: str) -> list[set[int | None]]:
    axes = (2, 3) if data_format == "channels_first" else (1, 2)
    return [{shape[axis] for shape in shapes} for axis in axes]


def _activation(layer: keras.layers.Layer) -> Any:
    return (
        layer if isinstance(layer, SPDDepthwiseConv) else getattr(layer, "conv", layer)
    ).activation


def _float64(weight: Tensor) -> Array:
    return keras.ops.convert_to_numpy(weight).astype("float64")
