"""Files of a data set: their text, the sizes of images, and names that cannot be files."""

import os
import pathlib

from keras_spd.images import read
from keras_spd.images.read import check_file as check_file


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
