"""Sizes of images and networks, in pixels."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np


def parse_sides(size: int | Sequence[int], smallest: int = 1) -> tuple[int, int] | None:
    """Returns `(height, width)` of a square or a rectangle.

    Args:
        size: One integer, or two: `(height, width)`. NumPy's integers are integers as well.
        smallest: Integer, the shortest side accepted.

    Returns:
        Two integers; `None` if `size` is anything else, or a side is too short.

    Example:

    >>> parse_sides(320), parse_sides([240, 320]), parse_sides(0)
    ((320, 320), (240, 320), None)
    """
    pair: Any = size if np.ndim(size) else (size, size)
    try:
        sides = [operator.index(side) for side in pair]
    except TypeError:
        return None
    height, width = sides if len(sides) == 2 else (0, 0)
    return (height, width) if min(height, width) >= smallest else None


def check_image_size(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Returns `(height, width)` of an `image_size`, or raises a `ValueError` if it is not one."""
    sides = parse_sides(image_size)
    if sides is None:
        raise ValueError(
            "`image_size` must be one or two positive integers, (height, width). "
            f"Received: image_size={image_size!r}."
        )
    return sides
