"""Models from `.keras` files, or errors that name the file."""

import os
from typing import Any

import keras

from keras_spd.files import check_zip, shorten


def load_keras_file(path: str | os.PathLike, **options: Any) -> keras.Model:
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
