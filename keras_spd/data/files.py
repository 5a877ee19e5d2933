"""Reads text files of a dataset, and numbers in them."""

import os
import pathlib

from keras_spd.images.read import check_file


def read_text(path: str | os.PathLike) -> str:
    """Returns the text of a UTF-8 file, with or without a byte order mark.

    Args:
        path: Path.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the path is not a regular file, or its content is not UTF-8.
    """
    check_file(path)
    return pathlib.Path(path).read_text(encoding="utf-8-sig")


def parse_number(text: str) -> float:
    """Parses a number in a text file.

    Args:
        text: Decimal number, optionally with sign, point and exponent, or `inf` or `nan`.

    Raises:
        ValueError: If it is anything else, including what Python's `float` accepts: `1_0`, or
            digits of other scripts.
    """
    text = text.strip()
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is not a number")
    return float(text)
