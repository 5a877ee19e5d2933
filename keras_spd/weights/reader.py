"""Files of arrays, read without executing anything; knows no model."""

import pathlib

import numpy as np


def read_state_dict(source):
    """Reads a PyTorch state dict.

    Args:
        source: Mapping of names to arrays (NumPy arrays, PyTorch tensors on the CPU, ...), or the
            path of a `.safetensors` file.

    Returns:
        Dictionary of names to NumPy arrays in PyTorch layout.

    Raises:
        ValueError: If the file is missing, broken or of another kind.
    """
    if isinstance(source, (str, pathlib.Path)):
        return _read_safetensors(pathlib.Path(source))
    if not hasattr(source, "items"):
        raise ValueError(
            "`source` must map PyTorch names to arrays, or be the path of a `.safetensors` file. "
            f"Received: {type(source).__name__}."
        )
    return {name: np.asarray(array) for name, array in source.items()}


def _read_safetensors(path):
    if path.suffix != ".safetensors":
        raise ValueError(
            f"Cannot read {path}: of PyTorch's files only `.safetensors` is read, which holds "
            "arrays and nothing to execute. In PyTorch, save one with "
            "`safetensors.torch.save_file(model.state_dict(), path)`."
        )
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        import safetensors
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("Reading this file needs `pip install safetensors`.") from error
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a readable `.safetensors` file: {error}.") from error
