"""Removes zero borders from strided kernels and computes the padding they need; NumPy only."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_spd.algebra import same_padding
from keras_spd.typing import Array


def original_offset(
    kernel: Array, align: Any, blocks: Sequence[int], scale: int
) -> list[int] | None:
    """Returns the offset of the kernel that `to_spd` embedded, or `None` if the rest is not 0."""
    offset = []
    for side, count in zip(align.kernel_size, blocks, strict=True):
        if align.padding == "valid":
            offset.append(0)
        else:
            offset.append(scale * ((count - 1) // 2) - same_padding(0, side, scale))
    inside = cut(kernel, offset, align.kernel_size)
    return offset if np.count_nonzero(inside) == np.count_nonzero(kernel) else None


def cut(kernel: Array, offset: Sequence[int], size: Sequence[int]) -> Array:
    """Returns the part of a kernel with a given offset and size."""
    rows, columns = (slice(start, start + side) for start, side in zip(offset, size, strict=True))
    return kernel[rows, columns]


def trim(
    kernel: Array, scale: int, blocks: Sequence[int], padding: str, sides: Sequence[set[int | None]]
) -> tuple[Array, str | tuple[tuple[int, int], ...]]:
    """Removes the zero borders of a strided kernel.

    Args:
        kernel: Strided kernel, `scale` times as large as the kernel after the space-to-depth.
        scale: Stride of the kernel.
        blocks: `(height, width)` of the kernel after the space-to-depth.
        padding: `"same"` or `"valid"`, the padding of the convolution after the space-to-depth.
        sides: The known heights and the known widths of its inputs; either may contain `None`.

    Returns:
        The kernel, and its padding: `"same"`, `"valid"` or `((top, bottom), (left, right))`.
    """
    slices, paddings = [], []
    for axis in (0, 1):
        used = np.flatnonzero(np.any(kernel, axis=tuple({0, 1, 2, 3} - {axis})))
        front = scale * ((blocks[axis] - 1) // 2) if padding == "same" else 0
        start = min(used[0], front) if used.size else 0
        size = max(used[-1] + 1 - start, 1) if used.size else 1
        lost = 0 if padding == "same" else blocks[axis] - 1
        # Removing a trailing row of zeros must not add an output.
        while (found := _pixels(front - start, size, scale, lost, sides[axis])) is None:
            size += 1
        slices.append(slice(start, start + size))
        paddings.append(found)
    kernel = kernel[slices[0], slices[1]]
    for plain in ("valid", "same"):
        if all(plain in accepted for accepted, _ in paddings):
            return kernel, plain
    return kernel, tuple(pixels for _, pixels in paddings)


def _pixels(
    front: int, size: int, scale: int, lost: int, sides: Iterable[Any]
) -> tuple[set[str], tuple[int, int]] | None:
    """Returns which of "valid" and "same" are correct padding, and the padding in pixels.

    Args:
        front: Number of zeros before the first pixel.
        size: Length of the kernel.
        scale: Stride of the kernel.
        lost: How many outputs fewer than `ceil(side / scale)` there are.
        sides: Known lengths of the axis; with `None`, any length.

    Returns:
        A set of strings, and the pixels `(before, after)`; `None` if `size` is too small.
    """
    if None in sides:
        sides = range(size + scale * lost, size + scale * (lost + 1))  # each remainder once
    outputs = {side: -(-side // scale) - lost for side in sides}
    needed = {side: scale * (out - 1) + size - front - side for side, out in outputs.items()}
    back = max(0, *needed.values())
    if min(needed.values()) < back - scale + 1:
        return None
    accepted = set()
    if front == 0 and back == 0:
        accepted.add("valid")
    if lost == 0 and all(same_padding(side, size, scale) == front for side in sides):
        accepted.add("same")
    return accepted, (front, back)
