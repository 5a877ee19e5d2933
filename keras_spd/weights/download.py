"""Weights too large for the package: downloaded once, checked and cached."""

import os
import pathlib
import urllib.parse

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
        ValueError: If the variable is not set, the folder lacks the file, or the download fails or
            has a different hash.
    """
    base = os.environ.get(VARIABLE)
    if not base:
        raise ValueError(
            f"The weights {name} are not in the package. Set {VARIABLE} to the folder or the "
            "URL that holds them."
        )
    if "://" not in base:
        file = pathlib.Path(base).expanduser() / name
        if not file.is_file():
            raise ValueError(f"There is no file {file}. {VARIABLE} must be the folder that has it.")
        return file
    _check_address(base)
    import keras  # not at the top: `keras-spd list` reads the records without it

    address = f"{base.rstrip('/')}/{name}"
    try:
        downloaded = keras.utils.get_file(
            name, address, cache_subdir="keras_spd", file_hash=sha256, hash_algorithm="sha256"
        )
    except ValueError as error:  # of a wrong hash
        raise ValueError(
            f"The file {address} is damaged, or not these weights: its SHA-256 is not the one on "
            f"record, {sha256}. Correct {VARIABLE}, or the file."
        ) from error
    except Exception as error:  # `get_file` raises bare exceptions
        raise ValueError(
            f"The weights {name} cannot be downloaded from {address}: {str(error).rstrip('.')}. If "
            f"this machine is offline, copy the file to it and set {VARIABLE} to its folder."
        ) from error
    return pathlib.Path(downloaded)


def _check_address(base: str) -> None:
    try:
        parts = urllib.parse.urlsplit(base)
        known = parts.scheme == "file" or (
            parts.scheme in ("http", "https", "ftp") and parts.netloc
        )
    except ValueError:  # such as brackets that do not match
        known = False
    if not known:
        raise ValueError(
            f"{VARIABLE} must be a folder or a URL, such as https://example.org/weights. Received: "
            f"{base}."
        )
