"""Files of a data set: their text, the sizes of images, and names that cannot be files."""

import os
import pathlib
import stat

from keras_spd.images import read
from keras_spd.images.read import ImageError


def check_file(path: str | os.PathLike) -> None:
    """Refuses what would never be read to its end, such as a pipe, and names no file can have.

    A file that is not there passes: whoever reads it says so.

    Args:
        path: Path.

    Raises:
        ImageError: If it is a folder, a pipe or a device, or has a NUL byte in its name.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    except ValueError as error:
        raise ImageError(f"{str(path)!r}: cannot be the name of a file ({error}).") from None
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path}: is a folder, a pipe or a device, not a file.")


def read_text(path: str | os.PathLike) -> str:
    """Returns the text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: Path.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not a file, or not UTF-8.
    """
    check_file(path)
    return pathlib.Path(path).read_text(encoding="utf-8-sig")


def image_sizes(path: str | os.PathLike) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns height and width of an image as it is shown, and as its pixels are stored.

    They differ where EXIF data turn the image by a quarter.

    Args:
        path: Path of the image.

    Raises:
        ImageError: If it is not an image.
    """
    check_file(path)
    return read.image_sizes(path)
