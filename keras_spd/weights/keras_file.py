"""Loads and saves Keras' own files. Errors name the file, and writing is atomic."""

import io
from typing import Any

import h5py
import keras
import numpy as np

from keras_spd.files import check_zip, shorten, whole_file
from keras_spd.typing import Path


def load_keras_file(path: Path, **options: Any) -> keras.Model:
    """Loads a model from a `.keras` file after verifying its checksums.

    Args:
        path: Path of the file.
        **options: Arguments of `keras.saving.load_model`.

    Raises:
        ValueError: If the file is truncated or damaged, Keras cannot load a model from it, or its
            weights are not finite.
    """
    check_zip(path)
    try:
        model = keras.saving.load_model(path, **options)
    except Exception as error:  # files of other versions or formats can raise anything
        raise ValueError(f"Cannot load a model from {path}: {shorten(error)}") from error
    check_finite(model, path)
    return model


def check_finite(model: keras.Model, source: Path) -> None:
    """Raises a `ValueError` if weights that were read from a file are NaN or infinite."""
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise ValueError(
            f"{source} holds weights that are NaN or infinite: it is damaged, or training diverged "
            "before it was saved."
        )


def load_from_hub(address: str) -> keras.Model:
    """Loads a model from the Hugging Face Hub.

    Args:
        address: `"hf://USER/NAME"`.

    Raises:
        ValueError: If it cannot be downloaded or loaded.
    """
    try:
        model = keras.saving.load_model(address)
    except Exception as error:  # of the network, the hub or the file
        raise ValueError(f"Cannot load a model from {address}: {shorten(error)}") from error
    check_finite(model, address)
    return model


class _WeightsInMemory(io.BytesIO):
    """A buffer that Keras accepts as a file, because the name has the right suffix."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save_weights_file(model: keras.Model, path: Path, **attributes: Any) -> None:
    """Saves weights and optimizer to a `.weights.h5` file atomically.

    HDF5 writes to memory first: on a full disk it would crash the process with a segmentation
    fault.

    Args:
        model: Keras model.
        path: Path of the file. The folder must exist.
        **attributes: HDF5 attributes of the file, numbers or strings.

    Raises:
        OSError: If the file cannot be written. An existing file at `path` is kept.
    """
    memory = _WeightsInMemory()
    model.save_weights(memory)
    with h5py.File(memory, "a") as file:
        file.attrs.update(attributes)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(memory.getbuffer())
