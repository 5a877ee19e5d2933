"""Finds the value that maps to 255 over the images of a dataset with more than 8 bits."""

import os
from collections.abc import Iterable

from keras_spd.images import depth
from keras_spd.images.read import BROKEN, ImageError, check_on_problem, open_image
from keras_spd.typing import Path


def find_max_value(
    images: Iterable[str | os.PathLike | bytes], on_problem: str = "error"
) -> float | None:
    """Finds the `max_value` of a dataset whose images have more than 8 bits.

    Args:
        images: Paths, or the bytes of encoded images, of the training data. 8-bit images are not
            decoded.
        on_problem: `"error"` to raise on an unreadable image, or `"skip"` to skip it.

    Returns:
        The largest value in any image, rounded up to 255, 1023, 4095, 16383 or 65535 (8 to 16
        bits), unchanged above 65535, or 1.0 if no value exceeds 1; `None` if no image has more
        than 8 bits.

    Raises:
        ImageError: If an image cannot be read, or has values that are negative or NaN, and
            `on_problem` is `"error"`.
        ValueError: If `on_problem` is another value.

    Example:

    >>> max_value = find_max_value(pathlib.Path("thermal/train").glob("*.tif"))
    >>> train = keras_spd.data.load_detection("thermal/train.json", max_value=max_value)
    """
    check_on_problem(on_problem)
    highest = None
    for source in images:
        try:
            value = _largest_value(source)
        except ImageError:
            if on_problem == "error":
                raise
            continue
        if value is not None:
            highest = max(value, highest or 0)
    return None if highest is None else depth.round_up(highest)


def _largest_value(source: Path | bytes) -> float | None:
    """Returns the largest value in an image with more than 8 bits, otherwise `None`."""
    name = "image" if isinstance(source, bytes) else str(source)
    with open_image(source, name) as image:
        if not image.mode.startswith(("I", "F")):
            return None
        try:
            image.load()
            return depth.largest_value(image)
        except BROKEN as error:
            raise ImageError(f"{name}: {error}") from error
