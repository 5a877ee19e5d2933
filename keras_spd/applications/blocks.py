"""The building blocks of ResNet: functions from tensor to tensor.

Layer names are paths (`stage2_block1_conv2`); weights, surgery and users find layers by name.
"""

import keras
from keras import layers

from keras_spd.fast_layers import BatchNormalization, Conv2D
from keras_spd.layers import SpaceToDepth, SPDConv
from keras_spd.typing import Tensor


def initializer() -> keras.initializers.Initializer:
    """PyTorch's default for convolutions and dense layers: uniform in +-1 / sqrt(fan_in)."""
    return keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def conv(x: Tensor, filters: int, kernel_size: int, name: str, *, strides: int = 1) -> Tensor:
    """A convolution without bias, every side padded by `(kernel_size - 1) // 2` as in PyTorch."""
    padding = "same"
    if strides > 1 and kernel_size > 1:
        # For a strided convolution, Keras pads an even side only at the bottom and right.
        x = layers.ZeroPadding2D((kernel_size - 1) // 2, name=f"{name}_pad")(x)
        padding = "valid"
    return Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=initializer(),
        name=name,
    )(x)


def spd_conv(x: Tensor, filters: int, kernel_size: int, name: str) -> Tensor:
    """SPD-Conv, the paper's block, without bias."""
    return SPDConv(
        filters,
        kernel_size,
        padding="same",
        use_bias=False,
        kernel_initializer=initializer(),
        name=name,
    )(x)


def batch_norm(x: Tensor, name: str) -> Tensor:
    """Batch norm with PyTorch's defaults: epsilon 1e-5, momentum 0.1 (0.9 in Keras)."""
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def residual_block(
    x: Tensor,
    filters: int,
    name: str,
    *,
    bottleneck: bool,
    stride: int,
    downsampling: str,
    shortcut: str,
) -> Tensor:
    """The basic or bottleneck block of a ResNet, downsampled by a stride or by SPD.

    With SPD, as in the authors' code, the 3x3 convolution comes first, then space-to-depth, and
    the batch norm and the next convolution take 4x the channels.

    Args:
        x: Tensor of shape `(batch, height, width, channels)`.
        filters: Integer, the width of the block.
        name: String, the prefix of its layer names.
        bottleneck: Boolean: 1x1, 3x3, 1x1 with `4 * filters` outputs, or 3x3, 3x3 with `filters`.
        stride: 1 or 2, the factor by which height and width are reduced.
        downsampling: `"spd"` or `"strided"`, how the residual branch is downsampled.
        shortcut: `"spd"` or `"strided"`, how the shortcut is downsampled.

    Returns:
        Tensor of shape `(batch, height / stride, width / stride, outputs)`, height and width
        rounded up.

    Source: `BasicBlock` and `BottleNeck` in `ResNet18-SPD/models/resnet50_spd.py` (SPD) and
    `ResNet50-SPD/models/resnet.py` (strided) of LabSAINT/SPD-Conv.
    """
    outputs = 4 * filters if bottleneck else filters
    kernels = [(1, filters), (3, filters), (1, outputs)] if bottleneck else [(3, filters)] * 2
    shrinking = 2 if bottleneck else 1  # index of the downsampling convolution

    y = x
    for index, (kernel_size, channels) in enumerate(kernels, start=1):
        shrinks = stride == 2 and index == shrinking
        strides = 2 if shrinks and downsampling == "strided" else 1
        y = conv(y, channels, kernel_size, f"{name}_conv{index}", strides=strides)
        if shrinks and downsampling == "spd":
            y = SpaceToDepth(name=f"{name}_spd")(y)
        y = batch_norm(y, f"{name}_bn{index}")
        if index < len(kernels):
            y = layers.ReLU(name=f"{name}_relu{index}")(y)

    if stride == 2 and shortcut == "spd":
        x = batch_norm(spd_conv(x, outputs, 1, f"{name}_shortcut_conv"), f"{name}_shortcut_bn")
    elif stride == 2 or x.shape[-1] != outputs:
        x = conv(x, outputs, 1, f"{name}_shortcut_conv", strides=stride)
        x = batch_norm(x, f"{name}_shortcut_bn")
    y = layers.Add(name=f"{name}_add")([y, x])
    return layers.ReLU(name=f"{name}_out")(y)
