"""Text files of a data set."""

import os
import pathlib

from keras_spd.images.read import check_file


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


def parse_number(text: str) -> float:
    """Returns a number in a text file.

    Args:
        text: Decimal digits, with a sign, a point and an exponent or without; `inf` and `nan`.

    Raises:
        ValueError: If it is anything else, such as `1_0` or digits of another script, which
            Python's `float` accepts.
    """
    text = text.strip()
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is not a number")
    return float(text)
