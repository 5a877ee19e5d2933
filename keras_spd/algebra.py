"""The phase order of space-to-depth, and exact conversions of kernels; NumPy only.

A convolution after a space-to-depth equals a strided convolution with a kernel `scale` times as
large, and vice versa. Both kernels hold the same numbers in a different order.

We follow `tf.nn.space_to_depth`: phases are ordered row by row, each with all its channels, so
channel `(row * scale + column) * channels + c` is channel `c` of pixel `(row, column)`. The
authors' PyTorch code orders phases column by column. When the authors' weights are loaded, the
input channels of every layer after a space-to-depth are reordered.

Two exact identities transfer the weights of a trained strided network to SPD-Conv:

- A strided convolution equals a convolution after a space-to-depth (`strided_to_spd`). YOLOv5's
  stem, 6x6 with stride 2, is a 3x3 SPD-Conv:
  `kernel[i, j, phase(r, c) * 3 + ch] = k6[2i + r, 2j + c, ch]`.
- A strided convolution equals phase (0, 0) of the same convolution with stride 1 followed by a
  space-to-depth. The next layer ignores the other phases: its kernel has zeros for them
  (`strided_inputs_to_spd`). Pointwise operations, such as batch norm and activations, may come
  before the space-to-depth, or after it with the same values for each phase
  (`repeat_for_phases`).
"""

from collections.abc import Sequence

import numpy as np

from keras_spd.typing import Array


def columns_to_rows(array: Array, *, axis: int, scale: int = 2) -> Array:
    """Reorders stacked phases from column by column (the authors) to row by row (ours).

    Args:
        array: NumPy array, for example a convolution kernel or the gamma of a batch norm.
        axis: The axis that holds `scale**2` phases, each with all channels of the layer before
            the space-to-depth.
        scale: The scale of the space-to-depth.

    Returns:
        Array of the same shape, with `axis` reordered. The function is its own inverse.

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


def strided_to_spd(
    kernel: Array,
    scale: int,
    *,
    offset: Sequence[int] = (0, 0),
    blocks: Sequence[int] | None = None,
) -> Array:
    """Converts the kernel of a strided convolution into that of a convolution after space-to-depth.

    Args:
        kernel: NumPy array of shape `(height, width, inputs, outputs)`, the kernel of a
            convolution with stride `scale`. `inputs` may be the inputs of one group; a depthwise
            kernel has the shape `(height, width, channels, multiplier)`.
        scale: The stride, and the scale of the space-to-depth.
        offset: Row and column at which `kernel` starts in the zero-padded kernel of size
            `scale * blocks`.
        blocks: `(height, width)` of the result; defaults to the smallest that holds the kernel.

    Returns:
        Array of shape `(*blocks, scale**2 * inputs, outputs)`: the given weights, phase by phase,
        and zeros.

    Raises:
        ValueError: If the kernel at its offset does not fit into `blocks`.

    Example:

    >>> strided_to_spd(np.ones((3, 3, 8, 16)), 2).shape
    (2, 2, 32, 16)

    Source: section 3 of the paper; `y[i] = sum_t w[t] x[scale * i + t]`, with
    `t = scale * block + phase`.
    """
    size = kernel.shape[:2]
    if blocks is None:
        blocks = [-(-(start + side) // scale) for start, side in zip(offset, size, strict=True)]
    after = [scale * b - o - k for b, o, k in zip(blocks, offset, size, strict=True)]
    if min(after) < 0:
        raise ValueError(
            f"A kernel of {size} at {tuple(offset)} does not fit into {tuple(blocks)} blocks of "
            f"{scale}x{scale}."
        )
    large = np.pad(kernel, [*zip(offset, after, strict=True), (0, 0), (0, 0)])
    inputs, outputs = kernel.shape[2:]
    phases = large.reshape(blocks[0], scale, blocks[1], scale, inputs, outputs)
    return phases.transpose(0, 2, 1, 3, 4, 5).reshape(*blocks, scale**2 * inputs, outputs)


def spd_to_strided(kernel: Array, scale: int) -> Array:
    """Converts the kernel of a convolution after space-to-depth into that of a strided one.

    This is the inverse of `strided_to_spd`, except that the zeros it added are kept.

    Args:
        kernel: NumPy array of shape `(height, width, scale**2 * inputs, outputs)`.
        scale: The scale of the space-to-depth, and the stride.

    Returns:
        Array of shape `(scale * height, scale * width, inputs, outputs)`.

    Raises:
        ValueError: If the number of inputs is not a multiple of `scale**2`.

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


def strided_inputs_to_spd(
    kernel: np.ndarray, channels: int | None = None, scale: int = 2
) -> np.ndarray:
    """Converts a kernel that follows a strided convolution so that it follows a space-to-depth.

    `conv(strided_conv(x))` equals `conv(space_to_depth(unstrided_conv(x)))` if the second kernel
    reads phase (0, 0) as before and has zeros for the phases that the stride skipped.

    Args:
        kernel: Array of shape `(height, width, inputs, outputs)`.
        channels: Number of inputs, starting from the first, that come from the strided
            convolution; defaults to all. Inputs concatenated after them move after all phases.
        scale: The stride, and the scale of the space-to-depth.

    Returns:
        Array of shape `(height, width, inputs + (scale**2 - 1) * channels, outputs)`.

    Raises:
        ValueError: If the kernel has fewer inputs than `channels`.

    Example:

    >>> strided_inputs_to_spd(np.ones((1, 1, 32, 16)), channels=8).shape
    (1, 1, 56, 16)

    Source: section 3 of the paper; phase (0, 0) of `y` is `y[::scale, ::scale]`.
    """
    kernel = np.asarray(kernel)
    channels = kernel.shape[2] if channels is None else channels
    if channels > kernel.shape[2]:
        raise ValueError(
            f"The kernel must have at least channels={channels} inputs. "
            f"Received: kernel.shape={kernel.shape}."
        )
    first, rest = np.split(kernel, [channels], axis=2)
    skipped = np.zeros_like(
        first, shape=(*first.shape[:2], (scale**2 - 1) * channels, first.shape[3])
    )
    return np.concatenate([first, skipped, rest], axis=2)


def repeat_for_phases(values: np.ndarray, scale: int = 2) -> np.ndarray:
    """Repeats the values of a batch norm for each phase, to move it after a space-to-depth.

    Each phase has all channels of the convolution and gets the same values, so phase (0, 0) is
    normalised as before. Together with `strided_inputs_to_spd` for the next kernel, a residual
    branch of ResNet-SPD (convolution, space-to-depth, batch norm, ReLU, convolution) computes the
    same outputs as the strided branch.

    Args:
        values: Array of shape `(channels,)`: gamma, beta, mean or variance.
        scale: The stride, and the scale of the space-to-depth.

    Returns:
        Array of shape `(scale**2 * channels,)`.

    Example:

    >>> repeat_for_phases(np.array([1, 2]))
    array([1, 2, 1, 2, 1, 2, 1, 2])
    """
    return np.tile(np.asarray(values), scale**2)


def spd_inputs_to_strided(
    kernel: np.ndarray, channels: int | None = None, scale: int = 2
) -> np.ndarray:
    """Converts a kernel that follows a space-to-depth so that it follows a strided convolution.

    This is the inverse of `strided_inputs_to_spd`; only phase (0, 0) is kept.

    Args:
        kernel: Array of shape `(height, width, inputs, outputs)`.
        channels: Channels of one phase; defaults to `inputs / scale**2`. Inputs after all phases
            are kept.
        scale: The scale of the space-to-depth, and the stride.

    Returns:
        Array of shape `(height, width, inputs - (scale**2 - 1) * channels, outputs)`.

    Raises:
        ValueError: If the kernel uses another phase, so no strided network computes the same
            outputs, or if it has fewer than `scale**2 * channels` inputs.

    Example:

    >>> spd_inputs_to_strided(strided_inputs_to_spd(np.ones((1, 1, 8, 16)))).shape
    (1, 1, 8, 16)
    """
    kernel = np.asarray(kernel)
    channels = kernel.shape[2] // scale**2 if channels is None else channels
    if scale**2 * channels > kernel.shape[2]:
        raise ValueError(
            f"The kernel must have at least scale**2 * channels = {scale**2 * channels} inputs. "
            f"Received: kernel.shape={kernel.shape}."
        )
    first, skipped, rest = np.split(kernel, [channels, scale**2 * channels], axis=2)
    if np.any(skipped):
        raise ValueError(
            "The kernel reads pixels that a stride skips: it has nonzero weights for a phase other "
            "than (0, 0)."
        )
    return np.concatenate([first, rest], axis=2)


def same_padding(size: int, kernel_size: int, strides: int) -> int:
    """Returns the number of zeros that `padding="same"` adds before the first pixel of an axis.

    Args:
        size: Length of the axis, in pixels.
        kernel_size: Length of the window.
        strides: Stride of the window.

    Returns:
        Integer >= 0. It only depends on `size % strides`: 0 for a 3x3 window of stride 2 on an
        even axis, 1 on an odd one.
    """
    return max(kernel_size - strides + -size % strides, 0) // 2
