"""Type aliases for annotations; docstrings add shapes and units."""

import os
from typing import TYPE_CHECKING, Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the Keras backend, a `KerasTensor`, or an array. Keras ships no type hints."""
Path: TypeAlias = str | os.PathLike[str]
Shape: TypeAlias = tuple[Any, ...]
"""Integers, or `None` for unknown sizes."""

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray
else:

    def __getattr__(name: str) -> Any:
        # Late, so that the command line can show help and completion without NumPy.
        if name != "Array":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import numpy as np

        return np.ndarray
