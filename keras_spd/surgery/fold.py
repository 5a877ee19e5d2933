"""Folding a trained network for inference: fewer and cheaper layers, the same outputs."""

import dataclasses

import keras
import numpy as np

from keras_spd.algebra import same_padding, spd_to_strided
from keras_spd.applications.detector import Detector
from keras_spd.layers import SpaceToDepth, SPDConv
from keras_spd.surgery import graph
from keras_spd.surgery.layers import PhaseAlignment, PhasePooling, SPDDepthwiseConv
from keras_spd.surgery.to_spd import with_network


def fold(model):
    """Rewrites a trained network for inference; its outputs stay what they are.

    - SPD-Conv becomes the strided convolution that it is equal to, without the border of its
      kernel that is zero. Of a network from `to_spd` that has not been trained further, this
      gives back the original convolutions.
    - 1x1 and other convolutions behind a space-to-depth become strided ones; several 1x1
      convolutions behind the same one become one.
    - Batch norms directly behind a convolution become part of it; others stay.
    - `PhasePooling`, which `to_spd` makes of pooling layers, becomes strided pooling.

    A space-to-depth behind a convolution, as in the ResNets, stays: it moves data, but computes
    nothing.

    Args:
        model: Functional or Sequential Keras model, with nested ones; or a
            `keras_spd.applications.Detector`. It is left as it is.

    Returns:
        An uncompiled model of the same class, for inference: with batch norms gone, it is not
        meant to be trained.

    Raises:
        ValueError: If the model is not as described.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", weights="bccd")
    >>> fast = keras_spd.fold(model)

    Source: both identities of `keras_spd.algebra`; ordinary folding of batch norms.
    """
    if isinstance(model, Detector):
        return with_network(model, fold(model.network))
    graph.check_graph(model, "fold")
    folding = _Folding()
    for part in graph.graphs(model):
        folding.add(part)
    return folding.apply(model)


@dataclasses.dataclass
class _Convolution:
    """A convolution on its way to its folded form.

    Args:
        layer: The layer it comes from, which gives its name, activation and data format.
        kernel: Array `(height, width, inputs, outputs)`, in float64.
        bias: Array, or `None`.
        strides: Integer, or a pair.
        padding: `"same"`, `"valid"`, or pixels `((top, bottom), (left, right))`.
        depthwise: Whether it keeps channels apart.
    """

    layer: keras.layers.Layer
    kernel: np.ndarray
    bias: np.ndarray | None
    strides: int | tuple
    padding: str | tuple
    depthwise: bool = False

    @property
    def source(self):
        """The Keras convolution, inside of an SPD-Conv."""
        return getattr(self.layer, "conv", self.layer)

    def build(self, name=None):
        """Returns the layers and the function that fills them."""
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

        def assign():
            conv.kernel.assign(self.kernel)
            if self.bias is not None:
                conv.bias.assign(self.bias)

        return layers, assign


class _Folding:
    """Convolutions, and layers that others make superfluous, of a model and its nested ones."""

    def __init__(self):
        self.convolutions = {}
        self.sequences = {}
        self.assigns = []

    def add(self, model):
        """Folds one graph, without those nested in it."""
        connections = graph.Connections(model)
        layers = [layer for layer in graph.operations(model) if connections.calls(layer)]
        self.convolutions |= {id(layer): found for layer in layers if (found := _read(layer))}
        for layer in layers:
            if isinstance(layer, SpaceToDepth):
                self._space_to_depth(layer, connections)
            elif isinstance(layer, PhasePooling):
                self.sequences[id(layer)] = [_strided_pooling(layer)]
            elif id(layer) in self.convolutions and hasattr(layer, "space_to_depth"):
                self._spd_conv(layer, connections)
        for layer in layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                self._batch_norm(layer, connections)
        for layer in layers:
            if isinstance(layer, SpaceToDepth) and id(layer) in self.sequences:
                self._merge(layer, connections)

    def apply(self, model):
        for key, convolution in self.convolutions.items():
            if key not in self.sequences:
                layers, assign = convolution.build()
                self.sequences[key] = layers
                self.assigns.append(assign)
        folded = graph.rebuild(model, self.sequences)
        for assign in self.assigns:
            assign()
        return folded

    def _spd_conv(self, layer, connections):
        convolution = self.convolutions[id(layer)]
        scale, conv = layer.space_to_depth.scale, layer.conv
        blocks = convolution.kernel.shape[:2]
        convolution.kernel = spd_to_strided(convolution.kernel, scale)
        convolution.strides = scale
        shapes = graph.input_shapes(layer)
        before = connections.producer(layer)
        if isinstance(before, PhaseAlignment) and connections.only_consumer(before) is layer:
            offset = _original_kernel(convolution.kernel, before, blocks, scale)
            if offset is not None:
                convolution.kernel = _cut(convolution.kernel, offset, before.kernel_size)
                convolution.padding = before.padding
                self.sequences[id(before)] = []
                return
        sides = _sides(shapes, conv.data_format)
        convolution.kernel, convolution.padding = _trim(
            convolution.kernel, scale, blocks, conv.padding, sides
        )

    def _space_to_depth(self, layer, connections):
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
            convolution.kernel, convolution.padding = _trim(
                kernel, layer.scale, blocks, convolution.layer.padding, sides
            )
        self.sequences[id(layer)] = []

    def _batch_norm(self, layer, connections):
        before = connections.producer(layer)
        convolution = self.convolutions.get(id(before))
        if convolution is None or connections.only_consumer(before) is not layer:
            return
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

    def _merge(self, layer, connections):
        """Makes one convolution of several that were behind the same space-to-depth."""
        convolutions = [self.convolutions[id(other)] for other in connections.consumers(layer)]
        alike = {
            (c.kernel.shape[:3], c.padding, c.source.data_format, _activation(c.layer))
            for c in convolutions
        }
        if len(convolutions) < 2 or len(alike) > 1:
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


@keras.saving.register_keras_serializable(package="keras_spd")
class Channels(keras.layers.Layer):
    """Some of the channels: `start` to `stop`, the end not included.

    Args:
        start: Integer.
        stop: Integer.
        data_format: As in `keras.layers.Conv2D`.
    """

    def __init__(self, start, stop, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.start, self.stop = start, stop
        self.data_format = data_format or keras.config.image_data_format()

    def call(self, inputs):
        if self.data_format == "channels_first":
            return inputs[:, self.start : self.stop]
        return inputs[..., self.start : self.stop]

    def get_config(self):
        config = {key: getattr(self, key) for key in ("start", "stop", "data_format")}
        return {**super().get_config(), **config}


def _read(layer):
    """Returns the `_Convolution` that a layer is; `None` for others."""
    if type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
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


def _strided_pooling(layer):
    kinds = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
    return kinds[layer.mode](
        layer.pool_size,
        layer.scale,
        layer.padding,
        data_format=layer.data_format,
        dtype=layer.dtype_policy,
        name=layer.name,
    )


def _can_absorb(layer):
    """Tells whether a space-to-depth in front of a layer can become its stride."""
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups == 1
        and tuple(layer.strides) == tuple(layer.dilation_rate) == (1, 1)
    )


def _original_kernel(kernel, align, blocks, scale):
    """Where in a kernel lies the one that `to_spd` embedded, if all else is still zero."""
    offset = []
    for side, count in zip(align.kernel_size, blocks, strict=True):
        if align.padding == "valid":
            offset.append(0)
        else:
            offset.append(scale * ((count - 1) // 2) - same_padding(0, side, scale))
    inside = _cut(kernel, offset, align.kernel_size)
    return offset if np.count_nonzero(inside) == np.count_nonzero(kernel) else None


def _cut(kernel, offset, size):
    rows, columns = (slice(start, start + side) for start, side in zip(offset, size, strict=True))
    return kernel[rows, columns]


def _trim(kernel, scale, blocks, padding, sides):
    """Returns a strided kernel without borders of zeros, and its padding.

    Args:
        kernel: Strided kernel, `scale` times the size of that behind the space-to-depth.
        scale: Its stride.
        blocks: Size of that behind the space-to-depth.
        padding: `"same"` or `"valid"`, its padding.
        sides: Known heights, known widths; either may hold `None`.
    """
    slices, paddings = [], []
    for axis in (0, 1):
        used = np.flatnonzero(np.any(kernel, axis=tuple({0, 1, 2, 3} - {axis})))
        front = scale * ((blocks[axis] - 1) // 2) if padding == "same" else 0
        start = min(used[0], front) if used.size else 0
        size = max(used[-1] + 1 - start, 1) if used.size else 1
        lost = 0 if padding == "same" else blocks[axis] - 1
        # A tap of zeros less at the end must not make an output more.
        while (found := _pixels(front - start, size, scale, lost, sides[axis])) is None:
            size += 1
        slices.append(slice(start, start + size))
        paddings.append(found)
    kernel = kernel[slices[0], slices[1]]
    for plain in ("valid", "same"):
        if all(plain in accepted for accepted, _ in paddings):
            return kernel, plain
    return kernel, tuple(pixels for _, pixels in paddings)


def _pixels(front, size, scale, lost, sides):
    """Returns which of "valid" and "same" do as padding, and the pixels that do always.

    Args:
        front: Zeros before the first pixel.
        size: Length of the kernel.
        scale: Its stride.
        lost: Outputs less than `ceil(side / scale)`.
        sides: Known lengths of the axis, or with `None` any length.

    Returns:
        Pair of a set and of the pixels in front and behind; `None` if `size` is too small.
    """
    if None in sides:
        sides = range(size + scale * lost, size + scale * (lost + 1))  # each remainder once
    outputs = {side: -(-side // scale) - lost for side in sides}
    needed = {side: scale * (out - 1) + size - front - side for side, out in outputs.items()}
    behind = max(0, *needed.values())
    if min(needed.values()) < behind - scale + 1:
        return None
    accepted = set()
    if front == 0 and behind == 0:
        accepted.add("valid")
    if lost == 0 and all(same_padding(side, size, scale) == front for side in sides):
        accepted.add("same")
    return accepted, (front, behind)


def _sides(shapes, data_format):
    axes = (2, 3) if data_format == "channels_first" else (1, 2)
    return [{shape[axis] for shape in shapes} for axis in axes]


def _activation(layer):
    return (
        layer if isinstance(layer, SPDDepthwiseConv) else getattr(layer, "conv", layer)
    ).activation


def _float64(weight):
    return keras.ops.convert_to_numpy(weight).astype("float64")
