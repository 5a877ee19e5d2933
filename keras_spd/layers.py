"""Space-to-depth, and SPD-Conv: space-to-depth followed by a non-strided convolution.

Reference: Sunkara and Luo, "No More Strided Convolutions or Pooling", ECML PKDD 2022, section 3,
https://arxiv.org/abs/2208.03641.
"""

from typing import Any

import keras
from keras import ops

from keras_spd.checks import check_integer
from keras_spd.typing import Shape, Tensor

__all__ = ["SPDConv", "SpaceToDepth"]


@keras.saving.register_keras_serializable(package="keras_spd")
class SpaceToDepth(keras.layers.Layer):
    """Moves each `scale x scale` patch of pixels into channels.

    Nothing is discarded: this is the downsampling half of SPD-Conv. On TensorFlow it becomes
    `tf.nn.space_to_depth`, and in a TFLite file a single builtin `SPACE_TO_DEPTH` operator.

    Args:
        scale: Integer >= 2, the factor by which height and width are reduced.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`. The channel order is the same in both, so weights
            do not depend on the data format (`keras.ops.space_to_depth` orders channels
            differently in `"channels_first"`).
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input shape:
        `(batch, height, width, channels)`. Height and width may be unknown. If `scale` does not
        divide one of them, zeros are added at the bottom or right.

    Output shape:
        `(batch, ceil(height / scale), ceil(width / scale), scale**2 * channels)`. Channel
        `(row * scale + column) * channels + c` holds channel `c` of the pixel at `(row, column)`
        of each patch. With `"channels_first"`, channels are the second axis of both shapes.

    Raises:
        ValueError: If `scale` is not an integer >= 2, or the input is not of rank 4.

    Example:

    >>> image = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    >>> np.array(keras_spd.layers.SpaceToDepth(2)(image))[0, 0, 0]
    array([0., 1., 4., 5.], dtype=float32)
    """

    def __init__(self, scale: int = 2, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = check_integer("scale", scale, smallest=2)
        self.data_format = _standardize_data_format(data_format)

    def call(self, inputs: Tensor) -> Tensor:
        _check_rank(self, getattr(inputs, "shape", ()))
        if self.data_format == "channels_first":
            return ops.transpose(self._rearrange(ops.transpose(inputs, (0, 2, 3, 1))), (0, 3, 1, 2))
        return self._rearrange(inputs)

    def _rearrange(self, images: Tensor) -> Tensor:
        height, width = ops.shape(images)[1:3]  # integers where known, tensors where not
        bottom, right = -height % self.scale, -width % self.scale
        if not (isinstance(bottom, int) and isinstance(right, int) and bottom == right == 0):
            images = ops.pad(images, [[0, 0], [0, bottom], [0, right], [0, 0]])
        return ops.space_to_depth(images, self.scale, data_format="channels_last")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        _check_rank(self, input_shape)
        if self.data_format == "channels_first":
            batch, channels, height, width = input_shape
        else:
            batch, height, width, channels = input_shape
        height, width = (side and -(-side // self.scale) for side in (height, width))
        channels = channels and channels * self.scale**2
        if self.data_format == "channels_first":
            return (batch, channels, height, width)
        return (batch, height, width, channels)

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        # Keras would report the compute dtype, but integer images stay integers.
        shape = self.compute_output_shape(getattr(inputs, "shape", ()))
        return keras.KerasTensor(shape, dtype=inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        config = {"scale": self.scale, "data_format": self.data_format}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_spd")
class SPDConv(keras.layers.Layer):
    """SPD-Conv: space-to-depth followed by a non-strided convolution.

    It replaces a strided `keras.layers.Conv2D` or a pooling layer. It has the arguments and
    defaults of `Conv2D`, with `scale` instead of `strides`:
    `Conv2D(64, 3, strides=2, padding="same")` becomes `SPDConv(64, 3, scale=2, padding="same")`.

    Args:
        filters: Integer, the number of output channels.
        kernel_size: Integer or pair of integers, the kernel size of the convolution after
            space-to-depth. It covers `scale * kernel_size` input pixels.
        scale: Integer >= 2, the factor by which height and width are reduced.
        padding: `"valid"` or `"same"`, the padding of the convolution.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: As in `keras.layers.Conv2D`.
        groups: As in `keras.layers.Conv2D`. A group sees all `scale**2` phases, but only of its
            own input channels.
        activation, use_bias: As in `keras.layers.Conv2D`.
        kernel_initializer, bias_initializer: As in `keras.layers.Conv2D`.
        kernel_regularizer, bias_regularizer: As in `keras.layers.Conv2D`.
        activity_regularizer, kernel_constraint, bias_constraint: As in `keras.layers.Conv2D`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Input shape:
        `(batch, height, width, channels)`. Height and width may be unknown.

    Output shape:
        `(batch, ceil(height / scale), ceil(width / scale), filters)` with `padding="same"`; with
        `"valid"` both sides are `dilation_rate * (kernel_size - 1)` smaller.

    Attributes:
        space_to_depth: The `SpaceToDepth` layer.
        conv: The `keras.layers.Conv2D`. Its kernel has the shape
            `(*kernel_size, scale**2 * channels / groups, filters)`, phase by phase.

    Raises:
        ValueError: If `scale` is not an integer >= 2, the input is not of rank 4, `groups` does
            not divide its channels, or `strides` is passed.

    Example:

    >>> images = keras.random.uniform((8, 32, 32, 3))
    >>> keras_spd.layers.SPDConv(64, kernel_size=3, scale=2, padding="same")(images).shape
    (8, 16, 16, 64)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int] = 3,
        scale: int = 2,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if "strides" in kwargs:
            raise ValueError(
                "`SPDConv` takes no `strides`: it downsamples by `scale` without skipping "
                f"pixels. Received: strides={kwargs['strides']}. Pass `scale` instead, an integer "
                "for both sides. With a stride of 1, use `keras.layers.Conv2D`."
            )
        # `get_config` has these after `conv.enable_lora`.
        lora = {key: kwargs.pop(key) for key in ("lora_rank", "lora_alpha") if key in kwargs}
        super().__init__(**kwargs)
        self.space_to_depth = SpaceToDepth(
            scale, data_format=data_format, dtype=self.dtype_policy, name="space_to_depth"
        )
        self.conv = keras.layers.Conv2D(
            filters,
            kernel_size,
            padding=padding,
            data_format=self.space_to_depth.data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            dtype=self.dtype_policy,
            name="conv",
            trainable=self.trainable,
            **lora,
        )

    def build(self, input_shape: Shape) -> None:
        _check_rank(self, input_shape)
        channels = input_shape[self._channel_axis]
        if channels is None or channels % self.conv.groups:
            raise ValueError(
                "`groups` of `SPDConv` must divide the number of input channels, which must be "
                f"known. Received: groups={self.conv.groups}, input_shape={tuple(input_shape)}."
            )
        self.space_to_depth.build(input_shape)
        self.conv.build(self.space_to_depth.compute_output_shape(input_shape))

    def call(self, inputs: Tensor) -> Tensor:
        x = self.space_to_depth(inputs)
        if self.conv.groups > 1:
            x = self._group_phases(x)
        return self.conv(x)

    def _group_phases(self, x: Tensor) -> Tensor:
        """Reorders channels from (phase, group, channel) to (group, phase, channel)."""
        shape = list(ops.shape(x))
        axis = self._channel_axis % 4
        phases, groups = self.space_to_depth.scale**2, self.conv.groups
        split = [
            *shape[:axis],
            phases,
            groups,
            shape[axis] // (phases * groups),
            *shape[axis + 1 :],
        ]
        order = list(range(len(split)))
        order[axis], order[axis + 1] = axis + 1, axis
        return ops.reshape(ops.transpose(ops.reshape(x, split), order), shape)

    @property
    def _channel_axis(self) -> int:
        return 1 if self.conv.data_format == "channels_first" else -1

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        _check_rank(self, input_shape)
        return self.conv.compute_output_shape(self.space_to_depth.compute_output_shape(input_shape))

    def get_config(self) -> dict[str, Any]:
        conv = self.conv.get_config()
        for key in ("name", "trainable", "dtype", "strides"):
            del conv[key]
        return {**super().get_config(), **conv, "scale": self.space_to_depth.scale}


def _standardize_data_format(data_format: str | None) -> str:
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            '`data_format` must be "channels_last" or "channels_first". '
            f"Received: data_format={data_format!r}."
        )
    return data_format


def _check_rank(layer: keras.layers.Layer, shape: Shape) -> None:
    if len(shape) != 4:
        raise ValueError(
            f"`{type(layer).__name__}` takes a batch of images, one tensor of rank 4. "
            f"Received: input_shape={tuple(shape)}. For one image, add a batch axis: `x[None]`."
        )
