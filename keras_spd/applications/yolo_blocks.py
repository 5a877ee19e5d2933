"""The building blocks of YOLOv5 and YOLOv5-SPD: functions from tensor to tensor.

Source: `YOLOv5-SPD/models/common.py` of LabSAINT/SPD-Conv (the computation, not the code).
"""

import math
from typing import Any

import keras
from keras import layers, ops

from keras_spd.applications import blocks
from keras_spd.fast_layers import BatchNormalization
from keras_spd.layers import SpaceToDepth
from keras_spd.typing import Shape, Tensor


def conv(x: Tensor, filters: int, kernel_size: int, name: str, *, strides: int = 1) -> Tensor:
    """Convolution, batch norm, SiLU."""
    return norm_silu(blocks.conv(x, filters, kernel_size, f"{name}_conv", strides=strides), name)


def norm_silu(x: Tensor, name: str) -> Tensor:
    """Batch norm with YOLOv5's epsilon 1e-3 and momentum 0.03 (0.97 in Keras), then SiLU."""
    x = BatchNormalization(momentum=0.97, epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.Activation("silu", name=f"{name}_silu")(x)


def stem(x: Tensor, filters: int, name: str, downsampling: str) -> Tensor:
    """Halves height and width: SPD-Conv (like YOLOv5's old Focus), or a strided 6x6 convolution."""
    if downsampling == "strided":
        return conv(x, filters, 6, name, strides=2)
    return norm_silu(blocks.spd_conv(x, filters, 3, f"{name}_conv"), name)


def downsample(x: Tensor, filters: int, name: str, downsampling: str) -> Tensor:
    """Halves height and width: 3x3 convolution, then space-to-depth; or a strided convolution.

    As in the authors' code, the convolution comes first. The C3 block that follows mixes the
    phases; it has `4 * filters` input channels.
    """
    if downsampling == "strided":
        return conv(x, filters, 3, name, strides=2)
    return SpaceToDepth(name=f"{name}_spd")(conv(x, filters, 3, name))


def c3(x: Tensor, filters: int, num_blocks: int, name: str, *, shortcut: bool) -> Tensor:
    """C3: a cross-stage partial block with three convolutions around `num_blocks` bottlenecks."""
    y = conv(x, filters // 2, 1, f"{name}_cv1")
    bypass = conv(x, filters // 2, 1, f"{name}_cv2")
    for block in range(1, num_blocks + 1):
        z = conv(y, filters // 2, 1, f"{name}_block{block}_cv1")
        z = conv(z, filters // 2, 3, f"{name}_block{block}_cv2")
        y = layers.Add(name=f"{name}_block{block}_add")([y, z]) if shortcut else z
    y = layers.Concatenate(name=f"{name}_concat")([y, bypass])
    return conv(y, filters, 1, f"{name}_cv3")


def sppf(x: Tensor, filters: int, name: str) -> Tensor:
    """Spatial pyramid pooling: three successive 5x5 max poolings of stride 1, concatenated."""
    y = [conv(x, x.shape[-1] // 2, 1, f"{name}_cv1")]
    for index in range(1, 4):
        y.append(layers.MaxPooling2D(5, 1, padding="same", name=f"{name}_pool{index}")(y[-1]))
    return conv(layers.Concatenate(name=f"{name}_concat")(y), filters, 1, f"{name}_cv2")


def raw_predictions(
    x: Tensor, num_anchors: int, num_classes: int, stride: int, name: str
) -> Tensor:
    """A 1x1 convolution to `(batch, rows, columns, num_anchors, 5 + num_classes)`."""
    outputs = 5 + num_classes
    bias = DetectionBias(num_classes, stride, fan_in=x.shape[-1])
    x = layers.Conv2D(
        num_anchors * outputs,
        1,
        kernel_initializer=blocks.initializer(),
        bias_initializer=bias,
        name=f"{name}_conv",
    )(x)
    return SplitAnchors(num_anchors, name=name)(x)


@keras.saving.register_keras_serializable(package="keras_spd")
class DetectionBias(keras.initializers.Initializer):
    """Initial biases of a detection head, so that it expects 8 objects in a 640x640 image.

    Uniform in +-1 / sqrt(fan_in), PyTorch's default for the bias of a convolution, plus
    `log(8 / (640 / stride)**2)` for objectness and `log(0.6 / (num_classes - 0.99))` for classes.

    Args:
        num_classes: Integer.
        stride: Integer, the stride of the level in pixels.
        fan_in: Integer, the number of input channels.

    Source: `Model._initialize_biases` in `YOLOv5-SPD/models/yolo.py` of LabSAINT/SPD-Conv, after
    Lin et al., "Focal Loss for Dense Object Detection", section 3.3.
    """

    def __init__(self, num_classes: int, stride: int, fan_in: int) -> None:
        self.num_classes, self.stride, self.fan_in = num_classes, stride, fan_in

    def __call__(self, shape: Shape, dtype: str | None = None) -> Tensor:
        limit = 1 / math.sqrt(self.fan_in)
        objectness = math.log(8 / (640 / self.stride) ** 2)
        classes = math.log(0.6 / (self.num_classes - 0.99))
        prior = [0.0] * 4 + [objectness] + [classes] * self.num_classes
        prior = ops.tile(ops.convert_to_tensor(prior, dtype), shape[0] // len(prior))
        return prior + keras.random.uniform(shape, -limit, limit, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "stride": self.stride, "fan_in": self.fan_in}


@keras.saving.register_keras_serializable(package="keras_spd")
class SplitAnchors(layers.Layer):
    """Splits channels by anchor: `(batch, rows, columns, anchors * n)` to `(..., anchors, n)`.

    Args:
        num_anchors: Integer.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, num_anchors: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_anchors = num_anchors

    def call(self, inputs: Tensor) -> Tensor:
        *sides, channels = ops.shape(inputs)
        return ops.reshape(inputs, (*sides, self.num_anchors, channels // self.num_anchors))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        *sides, channels = input_shape
        return (*sides, self.num_anchors, channels // self.num_anchors)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_anchors": self.num_anchors}
