"""Packs arrays into few bytes: kernels as int8 per output channel, or as float16."""

from collections.abc import Mapping

import numpy as np

from keras_spd.typing import Array

_SCALE = ":scale"


def pack(arrays: Mapping[str, Array], precision: str) -> bytes:
    """Packs arrays into the bytes of a `.safetensors` file.

    Args:
        arrays: Names to float32 arrays.
        precision: `"int8"` for symmetric integers from -127 to 127 with a scale per output channel,
            or `"float16"`. It applies to kernels; vectors stay float32.

    Returns:
        Content of the file.

    Raises:
        ValueError: If `precision` is neither.
    """
    import safetensors.numpy

    packed = {}
    for name, array in arrays.items():
        array = np.asarray(array, "float32")
        if array.ndim > 1 and precision == "int8":
            scale = np.abs(array).max(axis=tuple(range(array.ndim - 1))) / 127
            scale = np.maximum(scale, 1e-12).astype("float32")
            packed[f"{name}{_SCALE}"] = scale
            array = np.round(array / scale).astype("int8")
        elif array.ndim > 1 and precision == "float16":
            array = array.astype("float16")
        elif precision not in ("int8", "float16"):
            raise ValueError(f'`precision` must be "int8" or "float16". Received: {precision!r}.')
        packed[name] = np.ascontiguousarray(array)
    return safetensors.numpy.save(packed)


def unpack(content: bytes) -> dict[str, Array]:
    """Restores the arrays that `pack` packed, as float32."""
    import safetensors.numpy

    packed = safetensors.numpy.load(content)
    return {
        name: array.astype("float32") * packed.get(f"{name}{_SCALE}", np.float32(1))
        for name, array in packed.items()
        if not name.endswith(_SCALE)
    }
