"""Layers of converted networks, in addition to `SPDConv`."""

from typing import Any

import keras
from keras import ops

from keras_spd.algebra import same_padding
from keras_spd.checks import check_choice, check_integer
from keras_spd.layers import SpaceToDepth
from keras_spd.typing import Shape, Tensor


class _Spatial(keras.layers.Layer):
    """A layer that works on rows and columns in either data format."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or keras.config.image_data_format()

    @property
    def _axes(self) -> tuple[int, int]:
        return (2, 3) if self.data_format == "channels_first" else (1, 2)

    def _slice(self, x: Tensor, axis: int, start: int | None, stop: int | None) -> Tensor:
        index = [slice(None)] * 4
        index[axis] = slice(start, stop)
        return x[tuple(index)]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_format": self.data_format}


@keras.saving.register_keras_serializable(package="keras_spd")
class PhaseAlignment(_Spatial):
    """Aligns the windows of a converted strided layer to one phase, for images of any size.

    With `padding="same"`, the position of the first strided window depends on the image size: a
    3x3 window of stride 2 starts at pixel 0 of an even side, and one pixel before it on an odd
    side. This layer adds the missing zeros, so that one kernel after a space-to-depth fits all
    sizes. With `padding="valid"`, it removes trailing pixels that no window reaches, which would
    add a row or column to the output.

    Args:
        kernel_size: `(height, width)` of the strided layer's window.
        scale: Integer, its stride.
        padding: `"same"` or `"valid"`, its padding.
        data_format: As in `keras.layers.Conv2D`.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        The same, with fewer than `scale` rows and columns more ("same") or fewer ("valid").
    """

    def __init__(
        self,
        kernel_size: tuple[int, int],
        scale: int,
        padding: str,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        check_choice("padding", padding, ("same", "valid"))
        check_integer("scale", scale)
        self.kernel_size = tuple(kernel_size)
        self.scale = scale
        self.padding = padding

    def call(self, inputs: Tensor) -> Tensor:
        x, shape = inputs, ops.shape(inputs)
        for axis, kernel_size in zip(self._axes, self.kernel_size, strict=True):
            change = self._change(shape[axis], kernel_size)
            if isinstance(change, int) and change == 0:
                continue
            if self.padding == "same":
                x = ops.pad(x, [[change if a == axis else 0, 0] for a in range(4)])
            else:
                x = self._slice(x, axis, 0, shape[axis] - change)
        return x

    def _change(self, size: Any, kernel_size: int) -> Any:
        """Returns the zeros to add at the start (same), or pixels to cut at the end (valid)."""
        if isinstance(size, int):
            return alignment(size, kernel_size, self.scale, self.padding)
        by_remainder = [
            alignment(kernel_size + remainder, kernel_size, self.scale, self.padding)
            for remainder in range(self.scale)
        ]
        return ops.take(ops.convert_to_tensor(by_remainder), (size - kernel_size) % self.scale)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = list(input_shape)
        for axis, kernel_size in zip(self._axes, self.kernel_size, strict=True):
            if shape[axis] is not None:
                change = alignment(shape[axis], kernel_size, self.scale, self.padding)
                shape[axis] += change if self.padding == "same" else -change
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        config = {key: getattr(self, key) for key in ("kernel_size", "scale", "padding")}
        return {**super().get_config(), **config}


def alignment(size: Any, kernel_size: int, strides: int, padding: str) -> Any:
    """Returns the number of pixels to add to or cut from an axis; see `PhaseAlignment`."""
    if padding == "same":
        aligned = same_padding(0, kernel_size, strides)
        return same_padding(size, kernel_size, strides) - aligned
    rows = (size - kernel_size) // strides + 1
    spd_rows = -(-size // strides) - -(-kernel_size // strides) + 1
    return size % strides if spd_rows > rows else 0


@keras.saving.register_keras_serializable(package="keras_spd")
class PhasePooling(_Spatial):
    """Computes strided pooling without a strided window, and without parameters.

    It pools at every pixel, then keeps one phase of a space-to-depth. This needs `scale**2` times
    as many windows as the strided layer.

    Args:
        mode: `"max"` or `"average"`.
        pool_size: `(height, width)` of the window.
        scale: Integer, the factor by which height and width are reduced.
        padding: `"same"` or `"valid"`.
        data_format: As in `keras.layers.MaxPooling2D`.

    Input and output shapes are those of `keras.layers.MaxPooling2D` with `strides=scale`.
    """

    def __init__(
        self,
        mode: str,
        pool_size: tuple[int, int],
        scale: int,
        padding: str,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        check_choice("mode", mode, ("max", "average"))
        check_choice("padding", padding, ("same", "valid"))
        check_integer("scale", scale)
        self.mode = mode
        self.pool_size = tuple(pool_size)
        self.scale = scale
        self.padding = padding
        self.space_to_depth = SpaceToDepth(
            scale, data_format=self.data_format, dtype=self.dtype_policy, name="space_to_depth"
        )

    def build(self, input_shape: Shape) -> None:
        self.space_to_depth.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        pool = ops.max_pool if self.mode == "max" else ops.average_pool
        x = pool(inputs, self.pool_size, 1, self.padding, self.data_format)
        shape = ops.shape(inputs)
        if self.padding == "same":
            for axis, side in zip(self._axes, self.pool_size, strict=True):
                x = self._slice(x, axis, self._first(shape[axis], side), None)
        x = self.space_to_depth(x)
        channel_axis = 6 - sum(self._axes)  # 1 or 3
        return self._slice(x, channel_axis, 0, inputs.shape[channel_axis])

    def _first(self, size: Any, side: int) -> Any:
        """Returns the row of the stride-1 result that is the first strided row."""
        centre = (side - 1) // 2
        if isinstance(size, int):
            return centre - same_padding(size, side, self.scale)
        by_remainder = [
            centre - same_padding(remainder, side, self.scale) for remainder in range(self.scale)
        ]
        return ops.take(ops.convert_to_tensor(by_remainder), size % self.scale)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = list(input_shape)
        for axis, side in zip(self._axes, self.pool_size, strict=True):
            if shape[axis] is not None:
                reach = 0 if self.padding == "same" else side - 1
                shape[axis] = -(-(shape[axis] - reach) // self.scale)
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        config = {key: getattr(self, key) for key in ("mode", "pool_size", "scale", "padding")}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_spd")
class SPDDepthwiseConv(keras.layers.Layer):
    """Depthwise SPD-Conv: every output channel sees all phases of one input channel.

    It is a space-to-depth, a depthwise convolution, and the sum over the `scale**2` phases. It has
    the arguments of `keras.layers.DepthwiseConv2D`, with `scale` instead of `strides` and without
    `dilation_rate`.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, ceil(height / scale), ceil(width / scale), channels * depth_multiplier)` with
        `padding="same"`.

    Raises:
        ValueError: If `scale` is not an integer >= 2, or the input is not of rank 4.

    Example:

    >>> images = keras.random.uniform((8, 32, 32, 3))
    >>> keras_spd.surgery.SPDDepthwiseConv(3, scale=2, padding="same")(images).shape
    (8, 16, 16, 3)

    Attributes:
        space_to_depth: The `SpaceToDepth` layer.
        conv: The `keras.layers.DepthwiseConv2D`, without bias and activation.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 3,
        scale: int = 2,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.space_to_depth = SpaceToDepth(
            scale, data_format=data_format, dtype=self.dtype_policy, name="space_to_depth"
        )
        self.data_format = self.space_to_depth.data_format
        self.conv = keras.layers.DepthwiseConv2D(
            kernel_size,
            padding=padding,
            depth_multiplier=depth_multiplier,
            data_format=self.data_format,
            use_bias=False,
            depthwise_initializer=depthwise_initializer,
            depthwise_regularizer=depthwise_regularizer,
            depthwise_constraint=depthwise_constraint,
            dtype=self.dtype_policy,
            name="conv",
            trainable=self.trainable,
        )
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.bias_constraint = keras.constraints.get(bias_constraint)

    @property
    def _channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else 3

    def build(self, input_shape: Shape) -> None:
        self.space_to_depth.build(input_shape)
        self.conv.build(self.space_to_depth.compute_output_shape(input_shape))
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(input_shape[self._channel_axis] * self.conv.depth_multiplier,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs: Tensor) -> Tensor:
        x = self.conv(self.space_to_depth(inputs))
        axis = self._channel_axis
        phases = self.space_to_depth.scale**2
        x = sum(ops.split(x, phases, axis=axis))
        if self.use_bias:
            bias = self.bias[:, None, None] if axis == 1 else self.bias
            x = x + ops.cast(bias, x.dtype)
        return x if self.activation is None else self.activation(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = self.conv.compute_output_shape(
            self.space_to_depth.compute_output_shape(input_shape)
        )
        shape, axis = list(shape), self._channel_axis
        shape[axis] //= self.space_to_depth.scale**2
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        conv = self.conv.get_config()
        keys = (
            "kernel_size",
            "padding",
            "depth_multiplier",
            "data_format",
            "depthwise_initializer",
            "depthwise_regularizer",
            "depthwise_constraint",
        )
        return {
            **super().get_config(),
            **{key: conv[key] for key in keys},
            "scale": self.space_to_depth.scale,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


@keras.saving.register_keras_serializable(package="keras_spd")
class Channels(keras.layers.Layer):
    """Selects channels `start` to `stop`.

    Args:
        start: Integer, the first channel.
        stop: Integer, one after the last channel.
        data_format: As in `keras.layers.Conv2D`.
    """

    def __init__(
        self, start: int, stop: int, data_format: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.start, self.stop = start, stop
        self.data_format = data_format or keras.config.image_data_format()

    def call(self, inputs: Tensor) -> Tensor:
        if self.data_format == "channels_first":
            return inputs[:, self.start : self.stop]
        return inputs[..., self.start : self.stop]

    def get_config(self) -> dict[str, Any]:
        config = {key: getattr(self, key) for key in ("start", "stop", "data_format")}
        return {**super().get_config(), **config}
