"""Weights too large for the package: downloaded once, checked and cached."""

import os
import pathlib

VARIABLE = "KERAS_SPD_WEIGHTS"


def find_weights(name: str, sha256: str) -> pathlib.Path:
    """Returns the path of a weights file outside the package.

    The environment variable `KERAS_SPD_WEIGHTS` is the folder or the URL of these files. A file in
    a folder is used in place. From a URL it is downloaded once into Keras' cache
    (`~/.keras/keras_spd`, or below `KERAS_HOME`).

    Args:
        name: Name of the file.
        sha256: SHA-256 of the file, in hexadecimal digits. A cached file with a different hash is
            downloaded again.

    Raises:
        ValueError: If the variable is not set, or the download fails or has a different hash.
    """
    base = os.environ.get(VARIABLE)
    if not base:
        raise ValueError(
            f"The weights {name} are not in the package. Set {VARIABLE} to the folder or the "
            "URL that holds them."
        )
    if "://" not in base:
        return pathlib.Path(base).expanduser() / name
    import keras  # not at the top: `keras-spd list` reads the records without it

    address = f"{base.rstrip('/')}/{name}"
    try:
        file = keras.utils.get_file(
            name, address, cache_subdir="keras_spd", file_hash=sha256, hash_algorithm="sha256"
        )
    except Exception as error:  # `get_file` raises bare exceptions
        raise ValueError(
            f"The weights {name} cannot be downloaded from {address}: {error}. Offline, download "
            f"the file elsewhere and set {VARIABLE} to its folder."
        ) from error
    return pathlib.Path(file)
