"""Images on object stores and other file systems, by their addresses, with fsspec."""

import pathlib
from collections.abc import Iterable
from typing import Any

from keras_spd.images.read import SUFFIXES, ImageError, to_rgb
from keras_spd.predict.stream import find_sources
from keras_spd.typing import Path


def is_address(path: Any) -> bool:
    """Returns whether a path is an address such as `s3://bucket/photos`."""
    return "://" in str(path)


def find_images(sources: Iterable[Path], exclude: Path | None = None) -> list[str]:
    """Finds images on this machine and on object stores.

    Args:
        sources: As in `keras_spd.predict.find_sources`; also addresses of files, folders (without
            hidden files) and glob patterns, such as `s3://bucket/photos/**/*.jpg`.
        exclude: As in `keras_spd.predict.find_sources`.

    Returns:
        List of paths and addresses, in the order of the arguments.

    Raises:
        ImportError: If fsspec, or its package for this kind of address, is not installed.
        ValueError: If there is no such image; the message names it.
    """
    found: list[str] = []
    for source in map(str, sources):
        if is_address(source):
            found += _find(source)
        else:
            found += map(str, find_sources([source], exclude))
    return found


def _find(address: str) -> list[str]:
    system, path = _open_system(_import_fsspec(), address)
    try:
        if any(character in path for character in "*?["):
            paths = system.glob(path)
        else:
            # A folder with its subfolders, or a file.
            paths = [one for one in system.find(path) if not _is_hidden(one.removeprefix(path))]
    except Exception as error:  # each store has its own
        raise ValueError(f"{address}: cannot be listed ({error}).") from error
    known = sorted(one for one in paths if pathlib.PurePosixPath(one).suffix.lower() in SUFFIXES)
    if not known:
        raise ValueError(f"There is no image at {address}.")
    return [system.unstrip_protocol(one) for one in known]


def _is_hidden(path: str) -> bool:
    """Returns whether a path has a name that starts with a dot, such as macOS' `._photo.jpg`."""
    return any(part.startswith(".") for part in path.split("/"))


def _import_fsspec() -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise ImportError('Addresses such as s3:// need `pip install "keras_spd[ray]"`.') from error
    return fsspec


def _open_system(fsspec: Any, address: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:  # such as "Install s3fs to access S3"
        raise ImportError(f"{address}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from error


def read_image(path: str, max_value: float | None) -> Any:
    """Reads an image by its path or address, as `keras_spd.images.to_rgb` does."""
    if not is_address(path):
        return to_rgb(path, max_value=max_value)
    fsspec = _import_fsspec()
    try:
        with fsspec.open(path, "rb") as file:
            content = file.read()
    except ImportError as error:  # not a problem of this image
        raise ImportError(f"{path}: {error}") from error
    except Exception as error:  # each store has its own
        raise ImageError(f"{path}: cannot be read ({error}).") from error
    return to_rgb(content, path, max_value=max_value)
