"""Writes files atomically, and detects damaged ones."""

import contextlib
import functools
import itertools
import json
import os
import pathlib
import shutil
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

from keras_spd.typing import Path

_numbers = itertools.count()


def describe_damage(path: Path) -> str:
    """Returns what is wrong with a binary file that cannot be read.

    A failed download often leaves text: a web page or a Git LFS pointer.
    """
    with open(path, "rb") as file:
        start = file.read(40)
    if len(start) > 10 and start.isascii():
        shown = start.decode().replace("\n", " ")
        if shown.isprintable():
            return (
                f"it is text that starts with {shown!r}. Did the download save a web page or a "
                "Git LFS pointer?"
            )
    return "it is cut off or damaged. Download or copy it again."


def check_folder_of(path: Path | None) -> None:
    """Raises a `FileNotFoundError` unless the folder of a file to write exists."""
    if path is None:
        return
    path = pathlib.Path(path)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write to. Create it first.")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path to write to, and renames it to `path` when the block ends.

    If the block raises, an existing file at `path` is kept and the temporary one is removed. If
    `path` is a link, its target is written. The temporary path has the same suffixes, because
    writers choose the format by suffix.

    Args:
        path: Path of the file to write. Its folder must exist.

    Yields:
        `pathlib.Path` of the temporary file.

    Example:

    >>> with whole_file("model.keras") as unfinished:
    ...     model.save(unfinished)
    """
    check_folder_of(path)
    path = pathlib.Path(path).resolve()
    unfinished = _beside(path, "unfinished")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Removes the temporary files of `whole_file` that killed processes have left in a folder."""
    for file in pathlib.Path(folder).glob(".unfinished-*"):
        if file.is_file():
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[pathlib.Path]:
    """Yields a temporary folder to write to, and renames it to `path` when the block ends.

    Args:
        path: Path of the folder to write. Its parent must exist.

    Yields:
        `pathlib.Path` of the temporary folder.
    """
    check_folder_of(path)
    path = pathlib.Path(path).resolve()
    unfinished, old = _beside(path, "unfinished"), _beside(path, "old")
    for rest in (unfinished, old):  # of a killed process that had the same id
        shutil.rmtree(rest, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        try:
            if path.exists():
                os.replace(path, old)
            os.replace(unfinished, path)
        except BaseException:  # also Ctrl-C
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(path: pathlib.Path, state: str) -> pathlib.Path:
    """Returns a hidden path in the same folder, for this process; long names are shortened."""
    return path.with_name(f".{state}-{os.getpid()}-{next(_numbers)}-{path.name[-40:]}")


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Writes a JSON file atomically.

    Args:
        path: Path of the file.
        content: Any object that `json.dumps` accepts.
        indent: Integer, or `None` for a single line.
    """
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def check_zip(path: Path) -> None:
    """Checks a zip file, such as a `.keras` file, before another reader opens it.

    Args:
        path: Path of the file.

    Raises:
        ValueError: If the file is truncated, damaged or compressed, or its entries are larger than
            the file.
    """
    path = pathlib.Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            total = sum(member.file_size for member in members)
            # Compressed entries are not read: they may unpack to any size.
            broken = stored and (total > path.stat().st_size or archive.testzip())
    except Exception as error:  # zipfile raises many kinds, such as NotImplementedError
        raise ValueError(f"{path} is not a readable file: {describe_damage(path)}") from error
    if not stored:
        raise ValueError(
            f"{path} was not read: its entries are compressed, so it is damaged or was "
            "repacked. Download or copy it again, or save it with `model.save`."
        )
    if broken:
        raise ValueError(f"{path} is not a readable file: {describe_damage(path)}")


def check_h5(path: Path) -> None:
    """Checks an HDF5 file, such as a `.weights.h5` file, before another reader opens it.

    HDF5 files written by Keras have no checksums, so a flipped bit inside an array cannot be
    detected. `.keras` files have checksums.

    Args:
        path: Path of the file.

    Raises:
        ValueError: If the file does not have the size that its header records, or a group or array
            is damaged.
    """
    import h5py

    path = pathlib.Path(path)
    try:
        size = path.stat().st_size
        if _h5_size(path) != size:
            raise ValueError(f"it has {size} bytes")
        with h5py.File(path) as file:
            file.visititems(functools.partial(_check_h5_item, size))
    except Exception as error:  # h5py raises many kinds, such as RuntimeError
        raise ValueError(f"{path} is not a readable file: {describe_damage(path)}") from error


def _h5_size(path: Path) -> int:
    """Returns the size recorded in the first block of an HDF5 file (format specification, II.A)."""
    with open(path, "rb") as file:
        block = file.read(64)
    if block[:8] != b"\x89HDF\r\n\x1a\n":
        raise ValueError("no HDF5 signature")
    [size] = struct.unpack_from("<Q", block, {0: 40, 1: 44, 2: 28, 3: 28}[block[8]])
    return size


def _check_h5_item(size: int, name: str, item: Any) -> None:
    """Reads one group or array, unless it claims to be larger than the file."""
    dict(item.attrs)
    if hasattr(item, "nbytes"):
        if item.nbytes > size:
            raise ValueError(f"{name} has {item.nbytes} bytes")
        item[()]


def shorten(error: BaseException, limit: int = 500) -> str:
    """Returns the start of an error message; Keras' messages can hold a whole configuration."""
    text = str(error)
    return text if len(text) <= limit else f"{text[:limit]} [...]"
