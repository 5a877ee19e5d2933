"""The order in which space-to-depth stacks the pixels of a patch, and what follows; NumPy only.

A convolution behind a space-to-depth is a strided convolution whose kernel is `scale` times as
large, and the other way round. Both are the same numbers in another order.

Our one convention is that of `tf.nn.space_to_depth`: phases row by row, each with all its
channels, so that channel `(row * scale + column) * channels + c` is channel `c` of pixel
`(row, column)`. The authors' PyTorch code stacks them column by column. Whatever reads the output
of a space-to-depth has its input channels reordered when authors' weights are loaded.
"""

import numpy as np


def columns_to_rows(array, *, axis, scale=2):
    """Reorders stacked phases from column by column (the authors) to row by row (ours).

    Args:
        array: NumPy array, for example a convolution kernel or the gain of a batch norm.
        axis: The axis that holds `scale**2` phases, each with all channels of the layer before
            the space-to-depth.
        scale: The scale of the space-to-depth.

    Returns:
        The array of the same shape, with `axis` reordered. The function is its own inverse.

    Raises:
        ValueError: If the length of `axis` is not a multiple of `scale**2`.

    Example:

    >>> columns_to_rows(np.array(["00", "10", "01", "11"]), axis=0)
    array(['00', '01', '10', '11'], dtype='<U2')

    Source: `space_to_depth.forward` in `ResNet50-SPD/models/resnet50_spd.py` of LabSAINT/SPD-Conv.
    """
    array = np.asarray(array)
    if array.shape[axis] % scale**2:
        raise ValueError(
            f"Axis {axis} must hold a multiple of scale**2 = {scale**2} channels. "
            f"Received: array.shape={array.shape}."
        )
    phases = np.moveaxis(array, axis, 0)
    phases = phases.reshape(scale, scale, -1, *phases.shape[1:])
    rows = phases.swapaxes(0, 1).reshape(-1, *phases.shape[3:])
    return np.moveaxis(rows, 0, axis)


def strided_to_spd(kernel, scale, *, offset=(0, 0), blocks=None):
    """Turns the kernel of a strided convolution into that of a convolution behind space-to-depth.

    Args:
        kernel: NumPy array of shape `(height, width, inputs, outputs)`, of a convolution with
            stride `scale`. `inputs` may be those of a group, and a depthwise kernel is
            `(height, width, channels, multiplier)`.
        scale: The stride, and the scale of the space-to-depth.
        offset: Row and column of the large kernel at which the given one starts.
        blocks: `(height, width)` of the result; the smallest that hold the kernel by default.

    Returns:
        Array of shape `(*blocks, scale**2 * inputs, outputs)`: the given taps, phase by phase, and
        zeros.

    Raises:
        ValueError: If the kernel at its offset is larger than `blocks`.

    Example:

    >>> strided_to_spd(np.ones((3, 3, 8, 16)), 2).shape
    (2, 2, 32, 16)

    Source: section 3 of the paper; `y[i] = sum_t w[t] x[scale * i + t]`, with
    `t = scale * block + phase`.
    """
    size = kernel.shape[:2]
    if blocks is None:
        blocks = [-(-(start + side) // scale) for start, side in zip(offset, size, strict=True)]
    behind = [scale * b - o - k for b, o, k in zip(blocks, offset, size, strict=True)]
    if min(behind) < 0:
        raise ValueError(
            f"A kernel of {size} at {tuple(offset)} does not fit into {tuple(blocks)} blocks of "
            f"{scale}x{scale}."
        )
    large = np.pad(kernel, [*zip(offset, behind, strict=True), (0, 0), (0, 0)])
    inputs, outputs = kernel.shape[2:]
    phases = large.reshape(blocks[0], scale, blocks[1], scale, inputs, outputs)
    return phases.transpose(0, 2, 1, 3, 4, 5).reshape(*blocks, scale**2 * inputs, outputs)


def spd_to_strided(kernel, scale):
    """Turns the kernel of a convolution behind space-to-depth into that of a strided one.

    Args:
        kernel: NumPy array of shape `(height, width, scale**2 * inputs, outputs)`.
        scale: The scale of the space-to-depth, and the stride.

    Returns:
        Array of shape `(scale * height, scale * width, inputs, outputs)`. The inverse of
        `strided_to_spd`, but for the zeros that it has added.

    Raises:
        ValueError: If the inputs are not `scale**2` phases.

    Example:

    >>> spd_to_strided(np.ones((3, 3, 32, 16)), 2).shape
    (6, 6, 8, 16)
    """
    height, width, inputs, outputs = kernel.shape
    if inputs % scale**2:
        raise ValueError(
            f"The kernel must have a multiple of scale**2 = {scale**2} inputs. "
            f"Received: kernel.shape={kernel.shape}."
        )
    phases = kernel.reshape(height, width, scale, scale, inputs // scale**2, outputs)
    large = phases.transpose(0, 2, 1, 3, 4, 5)
    return large.reshape(scale * height, scale * width, inputs // scale**2, outputs)


def same_padding(size, kernel_size, strides):
    """Zeros that `padding="same"` puts before the first pixel of an axis.

    Args:
        size: Length of the axis.
        kernel_size: Length of the window.
        strides: Its stride.

    Returns:
        Integer >= 0. It depends on the remainder of `size` by `strides` alone: 0 for a 3x3 window
        of stride 2 on an even axis, 1 on an odd one.
    """
    return max(kernel_size - strides + -size % strides, 0) // 2
