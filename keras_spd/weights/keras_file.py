"""Keras' own files: models read with errors that name the file, weights written whole."""

import io
from typing import Any

import h5py
import keras

from keras_spd.files import check_zip, shorten, whole_file
from keras_spd.typing import Path


def load_keras_file(path: Path, **options: Any) -> keras.Model:
    """Loads a model from a `.keras` file. Its checksums are compared first.

    Args:
        path: Path of the file.
        **options: Arguments of `keras.saving.load_model`.

    Raises:
        ValueError: If the file is cut off or damaged, or Keras cannot make a model of it.
    """
    check_zip(path)
    try:
        return keras.saving.load_model(path, **options)
    except Exception as error:  # a file of another version or kind can raise anything
        raise ValueError(f"Cannot load a model from {path}: {shorten(error)}") from error


class _WeightsInMemory(io.BytesIO):
    """What Keras takes for a file: it looks at the suffix of the name."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save_weights_file(model: keras.Model, path: Path, **attributes: Any) -> None:
    """Saves weights and optimizer to a `.weights.h5` file, which appears when it is whole.

    HDF5 writes to memory here: where it writes to a full disk, it ends the process with a
    segmentation fault.

    Args:
        model: Keras model.
        path: Path of the file. Its folder must exist.
        **attributes: Attributes of the file, numbers or strings.

    Raises:
        OSError: If the file cannot be written. What stood at `path` stays.
    """
    memory = _WeightsInMemory()
    model.save_weights(memory)
    with h5py.File(memory, "a") as file:
        file.attrs.update(attributes)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(memory.getbuffer())
