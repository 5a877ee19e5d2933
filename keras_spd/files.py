"""Files appear when they are whole, and damaged ones are named as such."""

import contextlib
import os
import pathlib
import zipfile
from collections.abc import Iterator

DAMAGED = "it is cut off or damaged. Download or copy it again."


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a path beside `path` to write to; the file takes its place when the block ends.

    If the block raises, what stood at `path` stays and what was written is removed. The path given
    has the same suffixes, by which writers choose a format.

    Args:
        path: Path of the file to write. Its folder must exist.

    Example:

    >>> with whole_file("model.keras") as unfinished:
    ...     model.save(unfinished)
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".unfinished-{os.getpid()}-{path.name}")
    try:
        yield unfinished
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_zip(path: str | os.PathLike) -> None:
    """Checks a zip file, such as a `.keras` file, before it is given to other readers.

    Args:
        path: Path of the file.

    Raises:
        ValueError: If it is cut off or damaged, or would unpack to more than it holds.
    """
    path = pathlib.Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            total = sum(member.file_size for member in members)
            if not stored or total > path.stat().st_size:
                raise ValueError(
                    f"{path} was not read: its entries are compressed or overlap. Save the model "
                    "again with `model.save`."
                )
            broken = archive.testzip()
    except ValueError:
        raise
    except Exception as error:  # zipfile raises many kinds, such as NotImplementedError
        raise ValueError(f"{path} is not a readable file: {DAMAGED}") from error
    if broken is not None:
        raise ValueError(f"{path} is not a readable file: {DAMAGED}")


def shorten(error: Exception, limit: int = 500) -> str:
    """Returns the beginning of an error's message: Keras' can hold a whole configuration."""
    text = str(error)
    return text if len(text) <= limit else f"{text[:limit]} [...]"
