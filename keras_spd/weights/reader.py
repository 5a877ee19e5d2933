"""Reads files of arrays without executing anything in them. It does not depend on any model."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_spd.files import describe_damage
from keras_spd.typing import Array, Path
from keras_spd.weights.torch_file import read_torch

TORCH_SUFFIXES = (".pt", ".pth", ".bin")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Content of a PyTorch file.

    Args:
        arrays: State dict: names to NumPy arrays, in PyTorch's layout.
        class_names: Names of the classes, if the file has them.
    """

    arrays: Mapping[str, Array]
    class_names: tuple[str, ...] | None = None


def read_checkpoint(source: Path | Mapping[str, Any]) -> Checkpoint:
    """Reads a PyTorch state dict or checkpoint.

    Entries `num_batches_tracked` and prefixes `module.` are dropped.

    Args:
        source: Mapping of names to arrays (NumPy arrays, PyTorch tensors on the CPU, ...), or the
            path of a `.safetensors`, `.pt`, `.pth` or `.bin` file.

    Returns:
        `Checkpoint`.

    Raises:
        ValueError: If the file is missing or damaged, or has another format.
    """
    names = None
    if isinstance(source, (str, os.PathLike)):
        path = pathlib.Path(source)
        if not path.is_file():
            raise ValueError(f"There is no file {path}.")
        if path.suffix in TORCH_SUFFIXES:
            arrays, names = read_torch(path)
        elif path.suffix == ".safetensors":
            arrays = _read_safetensors(path)
        else:
            raise ValueError(
                f"Cannot read {path}: PyTorch's weights end in .safetensors or "
                f"{', '.join(TORCH_SUFFIXES)}."
            )
    elif hasattr(source, "items"):
        arrays = {name: np.asarray(array) for name, array in source.items()}
    else:
        raise ValueError(
            "`source` must map PyTorch names to arrays, or be the path of a `.pt`, `.pth` or "
            f"`.safetensors` file. Received: {type(source).__name__}."
        )
    arrays = {
        name.removeprefix("module."): array
        for name, array in arrays.items()
        if not name.endswith("num_batches_tracked")
    }
    return Checkpoint({name: _checked(name, array) for name, array in arrays.items()}, names)


def _checked(name: str, array: Array) -> Array:
    if array.dtype.name == "bfloat16":
        array = array.astype("float32")
    if array.dtype.kind != "f":
        problem = f"is of type {array.dtype}, and weights are floats. Save them as float32"
    elif not np.isfinite(array).all():
        problem = "holds NaN or infinite values. Use a checkpoint from before training diverged"
    elif name.endswith("running_var") and array.min(initial=0) < 0:
        problem = "holds negative values, and no variance is negative. Check the tensors' names"
    else:
        return array
    raise ValueError(f"The weights were not read: {name} {problem}.")


def _read_safetensors(path: pathlib.Path) -> dict[str, Array]:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("Reading this file needs `pip install safetensors`.") from error
    try:
        return safetensors.numpy.load_file(path)
    except Exception as error:  # damaged files can raise anything
        raise ValueError(
            f"{path} is not a readable `.safetensors` file: {describe_damage(path)}"
        ) from error
