"""Strided kernels without their borders of zeros, and the padding they then need; NumPy only."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_spd.algebra import same_padding
from keras_spd.typing import Array


def original_offset(
    kernel: Array, align: Any, blocks: Sequence[int], scale: int
) -> list[int] | None:
    """Returns where in a kernel lies the one that `to_spd` embedded, if all else is still zero."""
    offset = []
    for side, count in zip(align.kernel_size, blocks, strict=True):
        if align.padding == "valid":
            offset.append(0)
        else:
            offset.append(scale * ((count - 1) // 2) - same_padding(0, side, scale))
    inside = cut(kernel, offset, align.kernel_size)
    return offset if np.count_nonzero(inside) == np.count_nonzero(kernel) else None


def cut(kernel: Array, offset: Sequence[int], size: Sequence[int]) -> Array:
    """Returns the part of a kernel of some size, from an offset on."""
    rows, columns = (slice(start, start + side) for start, side in zip(offset, size, strict=True))
    return kernel[rows, columns]


def trim(
    kernel: Array, scale: int, blocks: Sequence[int], padding: str, sides: Sequence[set[int | None]]
) -> tuple[Array, str | tuple[tuple[int, int], ...]]:
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


def _pixels(
    front: int, size: int, scale: int, lost: int, sides: Iterable[Any]
) -> tuple[set[str], tuple[int, int]] | None:
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
