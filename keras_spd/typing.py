"""Names for types in annotations; docstrings add shapes and units."""

import os
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray
Tensor: TypeAlias = Any
"""A tensor of Keras' backend, a `KerasTensor`, or an array: Keras ships no types."""
Path: TypeAlias = str | os.PathLike[str]
Shape: TypeAlias = tuple[Any, ...]
"""Integers, and `None` where a size is not known."""
