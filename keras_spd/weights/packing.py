"""Packs arrays into few bytes: kernels as integers per output channel or as float16, compressed."""

import gzip
from collections.abc import Mapping

import numpy as np

from keras_spd.typing import Array

_SCALE = ":scale"
_FLOAT16 = 16


def pack(arrays: Mapping[str, Array], bits: int) -> bytes:
    """Packs arrays into the bytes of a `.safetensors.gz` file.

    Integers of a kernel are far from equally frequent, so gzip stores them in fewer than `bits`.

    Args:
        arrays: Names to float32 arrays.
        bits: Bits of each weight of a kernel: 4 to 8 for symmetric integers with a scale per output
            channel, such as -127 to 127 for 8; 16 for float16. Vectors stay float32.

    Returns:
        Content of the file.

    Raises:
        ValueError: If `bits` is another number.
    """
    import safetensors.numpy

    if bits not in (4, 5, 6, 7, 8, _FLOAT16):
        raise ValueError(f"`bits` must be from 4 to 8, or 16 for float16. Received: {bits!r}.")
    packed = {}
    for name, array in arrays.items():
        array = np.asarray(array, "float32")
        if array.ndim > 1 and bits == _FLOAT16:
            array = array.astype("float16")
        elif array.ndim > 1:
            scale = np.abs(array).max(axis=tuple(range(array.ndim - 1))) / (2 ** (bits - 1) - 1)
            scale = np.maximum(scale, 1e-12).astype("float32")
            packed[f"{name}{_SCALE}"] = scale
            array = np.round(array / scale).astype("int8")
        packed[name] = np.ascontiguousarray(array)
    return gzip.compress(safetensors.numpy.save(packed), mtime=0)


def unpack(content: bytes) -> dict[str, Array]:
    """Restores the arrays that `pack` packed, as float32."""
    import safetensors.numpy

    packed = safetensors.numpy.load(gzip.decompress(content))
    return {
        name: array.astype("float32") * packed.get(f"{name}{_SCALE}", np.float32(1))
        for name, array in packed.items()
        if not name.endswith(_SCALE)
    }
