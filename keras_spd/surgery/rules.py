"""Replaces strided layers: one function for each type of layer."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_spd import fast_layers
from keras_spd.algebra import same_padding, strided_to_spd
from keras_spd.checks import check_choice
from keras_spd.layers import SPDConv
from keras_spd.surgery.layers import PhaseAlignment, PhasePooling, SPDDepthwiseConv, alignment
from keras_spd.typing import Shape


@dataclasses.dataclass(frozen=True)
class Options:
    """Arguments of `to_spd` that control how layers are converted."""

    pooling: str = "keep"
    depthwise: str = "spd"

    def __post_init__(self) -> None:
        for name, accepted in (
            ("pooling", ("exact", "learned", "keep")),
            ("depthwise", ("spd", "keep")),
        ):
            check_choice(name, getattr(self, name), accepted)


@dataclasses.dataclass(frozen=True)
class Replacement:
    """The layers that replace a layer, in call order.

    Args:
        layers: New layers. The last one has the name of the old layer.
        assign: Function without arguments that assigns the old layer's weights to them.
        parameters: Integer, the number of their parameters.
        kernel: Integer, multiply-adds at each output position.
        note: A remark for the user, or `""`.
        exact: Whether they compute the same as the old layer.
    """

    layers: tuple
    assign: Callable = lambda: None
    parameters: int = 0
    kernel: int = 0
    note: str = ""
    exact: bool = True

    @property
    def name(self) -> str:
        """The class names of the new layers, joined for display."""
        return " + ".join(type(layer).__name__ for layer in self.layers)


class Unconvertible(Exception):
    """A strided layer cannot or should not be converted; the message says why."""


def is_strided(layer: Any) -> bool:
    """Returns whether a layer or operation has a stride above 1 that downsamples."""
    strides = getattr(layer, "strides", None) or 1
    if strides == 1 and not isinstance(layer, keras.layers.Layer):
        strides = getattr(layer, "pool_size", 1)  # the default of pooling in `keras.ops`
    return bool(np.max(strides) > 1) and "Transpose" not in type(layer).__name__


def replace(layer: Any, input_shapes: list[Shape], options: Options) -> Replacement:
    """Returns the `Replacement` of a strided layer.

    Args:
        layer: A layer for which `is_strided` is true.
        input_shapes: Shapes of the tensors it is called on.
        options: `Options`.

    Raises:
        Unconvertible: If it cannot or should not be converted.
    """
    rule = _RULES.get(type(layer))
    if rule is None:
        known = next((kind for kind in _RULES if isinstance(layer, kind)), None)
        if known is not None:
            raise Unconvertible(f"a subclass of {known.__name__}, which may compute something else")
        if not isinstance(layer, keras.layers.Layer):
            raise Unconvertible("an operation of `keras.ops`; write it as a layer")
        raise Unconvertible(f"{type(layer).__name__} has no SPD counterpart")
    if len(set(layer.strides)) > 1:
        raise Unconvertible(f"strides {layer.strides} differ, and space-to-depth has one scale")
    if np.max(getattr(layer, "dilation_rate", 1)) > 1:
        raise Unconvertible("dilated: pixels between those of the kernel are skipped")
    if getattr(layer, "quantization_mode", None):
        raise Unconvertible("quantised")
    if not layer.built:
        raise Unconvertible("not built: call the model on an image first")
    return rule(layer, input_shapes, options)


def _conv(layer: Any, input_shapes: list[Shape], options: Options) -> Replacement:
    scale = layer.strides[0]
    kernel_shape = tuple(layer.kernel.shape)
    blocks, offset = _blocks(kernel_shape[:2], scale, layer.padding)
    config = _config(layer, SPDConv, blocks)
    spd = SPDConv(**config, scale=scale)

    def assign() -> None:
        array = keras.ops.convert_to_numpy(layer.kernel)
        embedded = strided_to_spd(array, scale, offset=offset, blocks=blocks)
        spd.conv.kernel.assign(embedded)
        if layer.use_bias:
            spd.conv.bias.assign(layer.bias)

    kernel = int(np.prod(blocks)) * scale**2 * kernel_shape[2] * kernel_shape[3]
    notes = []
    if kernel_shape[:2] == (1, 1):
        notes.append(
            f"{scale**2}x the parameters: one set for each pixel that the stride used to skip"
        )
    return Replacement(
        (*_align(layer, kernel_shape[:2], input_shapes, notes), spd),
        assign,
        kernel + layer.filters * layer.use_bias,
        kernel,
        "; ".join(notes),
    )


def _depthwise(layer: Any, input_shapes: list[Shape], options: Options) -> Replacement:
    if options.depthwise == "keep":
        raise Unconvertible('`depthwise="keep"`')
    scale = layer.strides[0]
    shape = tuple(layer.kernel.shape)
    blocks, offset = _blocks(shape[:2], scale, layer.padding)
    config = _config(layer, SPDDepthwiseConv, blocks)
    spd = SPDDepthwiseConv(**config, scale=scale)

    def assign() -> None:
        array = keras.ops.convert_to_numpy(layer.kernel)
        spd.conv.kernel.assign(strided_to_spd(array, scale, offset=offset, blocks=blocks))
        if layer.use_bias:
            spd.bias.assign(layer.bias)

    kernel = int(np.prod(blocks)) * scale**2 * shape[2] * shape[3]
    notes = ["depthwise: slow in TFLite"]
    return Replacement(
        (*_align(layer, shape[:2], input_shapes, notes), spd),
        assign,
        kernel + shape[2] * shape[3] * layer.use_bias,
        kernel,
        "; ".join(notes),
    )


def _separable(layer: Any, input_shapes: list[Shape], options: Options) -> Replacement:
    if options.depthwise == "keep":
        raise Unconvertible('`depthwise="keep"`')
    scale = layer.strides[0]
    shape, pointwise_shape = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
    blocks, offset = _blocks(shape[:2], scale, layer.padding)
    config = layer.get_config()
    own = ("depth_multiplier", "data_format", "dtype", "depthwise_regularizer")
    spd = SPDDepthwiseConv(
        blocks,
        scale,
        layer.padding,
        use_bias=False,
        depthwise_constraint=config["depthwise_constraint"],
        name=f"{layer.name}_depthwise",
        **{key: config[key] for key in own},
    )
    pointwise = keras.layers.Conv2D(
        layer.filters,
        1,
        kernel_regularizer=config["pointwise_regularizer"],
        kernel_constraint=config["pointwise_constraint"],
        **{
            key: config[key]
            for key in (
                "name",
                "dtype",
                "data_format",
                "activation",
                "use_bias",
                "bias_regularizer",
                "bias_constraint",
                "activity_regularizer",
            )
        },
    )

    def assign() -> None:
        array = keras.ops.convert_to_numpy(layer.depthwise_kernel)
        spd.conv.kernel.assign(strided_to_spd(array, scale, offset=offset, blocks=blocks))
        pointwise.kernel.assign(layer.pointwise_kernel)
        if layer.use_bias:
            pointwise.bias.assign(layer.bias)

    depthwise = int(np.prod(blocks)) * scale**2 * shape[2] * shape[3]
    kernel = depthwise + int(np.prod(pointwise_shape))
    notes = ["depthwise: slow in TFLite"]
    return Replacement(
        (*_align(layer, shape[:2], input_shapes, notes), spd, pointwise),
        assign,
        kernel + layer.filters * layer.use_bias,
        kernel,
        "; ".join(notes),
    )


def _pooling(layer: Any, input_shapes: list[Shape], options: Options) -> Replacement:
    mode = "max" if isinstance(layer, keras.layers.MaxPooling2D) else "average"
    scale = layer.strides[0]
    if options.pooling == "keep":
        raise Unconvertible('pooling is kept; `pooling="learned"` makes it an SPDConv')
    if options.pooling == "exact":
        pooling = PhasePooling(
            mode,
            layer.pool_size,
            scale,
            layer.padding,
            data_format=layer.data_format,
            dtype=layer.dtype_policy,
            name=layer.name,
        )
        return Replacement((pooling,), note=f"{scale**2}x as many windows, 1 in {scale**2} is used")
    blocks, offset = _blocks(layer.pool_size, scale, layer.padding)
    axis = 1 if layer.data_format == "channels_first" else 3
    channels = input_shapes[0][axis]
    if channels is None:
        raise Unconvertible("its number of channels is unknown")
    if any(shape[axis] != channels for shape in input_shapes):
        raise Unconvertible(
            "it is called on different numbers of channels; an SPDConv needs a layer for each"
        )
    spd = SPDConv(
        channels,
        blocks,
        scale,
        layer.padding,
        data_format=layer.data_format,
        use_bias=False,
        dtype=layer.dtype_policy,
        name=layer.name,
    )

    def assign() -> None:
        mean = np.zeros((*layer.pool_size, channels, channels), "float32")
        mean[..., range(channels), range(channels)] = 1 / np.prod(layer.pool_size)
        spd.conv.kernel.assign(strided_to_spd(mean, scale, offset=offset, blocks=blocks))

    kernel = int(np.prod(blocks)) * scale**2 * channels**2
    notes = []
    exact = mode == "average" and layer.padding == "valid"
    if not exact:
        notes.append(
            "starts at the average, not at the maximum: outputs change"
            if mode == "max"
            else "counts the zeros beyond the edge: outputs change there"
        )
    aligned = _align(layer, layer.pool_size, input_shapes, notes)
    return Replacement((*aligned, spd), assign, kernel, kernel, "; ".join(notes), exact)


_RULES = {
    keras.layers.Conv2D: _conv,
    fast_layers.Conv2D: _conv,
    keras.layers.DepthwiseConv2D: _depthwise,
    keras.layers.SeparableConv2D: _separable,
    keras.layers.AveragePooling2D: _pooling,
    keras.layers.MaxPooling2D: _pooling,
}


def _config(layer: Any, replacement: type, blocks: tuple[int, int]) -> dict[str, Any]:
    """Returns the old layer's arguments that the new one accepts, with the new kernel size."""
    accepted = {*inspect.signature(replacement).parameters, "name", "dtype"}
    config = {key: value for key, value in layer.get_config().items() if key in accepted}
    return {**config, "kernel_size": blocks}


def _blocks(
    kernel_size: tuple[int, int], scale: int, padding: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the kernel size after the space-to-depth, and the offset of the old kernel in it."""
    (rows, top), (columns, left) = (_blocks_of_axis(side, scale, padding) for side in kernel_size)
    return (rows, columns), (top, left)


def _blocks_of_axis(side: int, scale: int, padding: str) -> tuple[int, int]:
    blocks = -(-side // scale)
    if padding == "valid":
        return blocks, 0
    # `padding="same"` of the new convolution adds (blocks - 1) // 2 blocks of zeros at the start.
    # For the old convolution, on a side divisible by the scale, it adds this many pixels:
    in_front = same_padding(0, side, scale)
    while (offset := scale * ((blocks - 1) // 2) - in_front) < 0 or scale * blocks < side + offset:
        blocks += 1
    return blocks, offset


def _align(
    layer: Any, kernel_size: Any, input_shapes: list[Shape], notes: list[str]
) -> tuple[PhaseAlignment, ...]:
    """Returns the `PhaseAlignment` before the new layer, if needed; notes run-time padding."""
    scale, padding = layer.strides[0], layer.padding
    axes = (2, 3) if layer.data_format == "channels_first" else (1, 2)
    changes = False
    for shape in input_shapes:
        for axis, side in zip(axes, kernel_size, strict=True):
            known = shape[axis]
            sizes = [known] if known is not None else range(side, side + scale)
            here = any(alignment(size, side, scale, padding) for size in sizes)
            changes |= here
            if here and known is None and notes[-1:] != [_LATE]:
                notes.append(_LATE)
    if not changes:
        return ()
    return (
        PhaseAlignment(
            kernel_size,
            scale,
            padding,
            data_format=layer.data_format,
            dtype=layer.dtype_policy,
            name=f"{layer.name}_align",
        ),
    )


_LATE = "padding decided at run time, by the image's size"
