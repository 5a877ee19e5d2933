"""Converts images of any bit depth to 8-bit RGB. No image is scaled by its own maximum."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image

from keras_spd.typing import Array

_STRIP = 2**22  # pixels
_LARGEST_VALUES = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
ACCEPTED = (
    "An image must be a path, the bytes of an encoded image, a Pillow image, or a uint8 or "
    "uint16 array of shape (height, width), (height, width, 1), (height, width, 3) or "
    "(height, width, 4)"
)


def check_max_value(max_value: Any) -> float | None:
    """Returns `max_value` as a float, or `None`; raises a `ValueError` if it is not valid."""
    if max_value is None:
        return None
    try:
        number = float(max_value)
    except (TypeError, ValueError):
        number = np.nan
    if isinstance(max_value, (bool, str)) or not 0 < number < np.inf:
        raise ValueError(
            "`max_value` must be a positive number, the value that maps to 255: 4095 for a 12-bit "
            f"camera, 65535 for 16 bits. Received: max_value={max_value!r}."
        )
    return number


def check_data_max_value(max_value: Any) -> float | Literal["auto"] | None:
    """Like `check_max_value`, but also accepts `"auto"`, to find it over a dataset."""
    return max_value if max_value == "auto" else check_max_value(max_value)


def to_8_bits(
    image: Image.Image, max_value: float | None = None, is_16_bit_colour: bool = False
) -> Image.Image:
    """Converts a loaded Pillow image to mode RGB.

    Args:
        image: `PIL.Image.Image`.
        max_value: The value that maps to 255 in modes with more than 8 bits; `None` for 65535,
            or 1.0 for floats.
        is_16_bit_colour: Whether the file has 16 bits per colour; Pillow keeps only the upper 8.

    Returns:
        `PIL.Image.Image` of mode RGB.

    Raises:
        ValueError: If values are negative, NaN or too large, or the mode cannot be converted.
    """
    if is_16_bit_colour and max_value not in (None, 65535):
        raise ValueError(colour_problem(max_value))
    if image.mode.startswith(("I", "F")):
        top = max_value or (1.0 if image.mode == "F" else 65535.0)
        gray = Image.new("L", image.size)
        for rows, strip in strips(image):
            gray.paste(Image.fromarray(_scale(np.asarray(strip), top, max_value)), (0, rows.start))
        image = gray
    return image if image.mode == "RGB" else image.convert("RGB")


def from_array(array: Any, max_value: float | None = None) -> Image.Image:
    """Converts a uint8 or uint16 array to a Pillow image of mode RGB.

    Args:
        array: Array of shape `(height, width)`, or `(height, width, channels)` with 1, 3 or 4
            channels.
        max_value: The value that maps to 255 in a uint16 array; `None` for 65535.

    Returns:
        `PIL.Image.Image` of mode RGB.

    Raises:
        ValueError: If the array has another shape or type, or values above `max_value`.
    """
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{ACCEPTED}. Received: {type(array).__name__}.")
    shape = array.shape[:2] if array.shape[2:] == (1,) else array.shape
    fits = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if not fits or 0 in shape or array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise ValueError(f"{ACCEPTED}. Received: {array.dtype} array of shape {array.shape}.")
    array = array.reshape(shape)[..., :3] if len(shape) == 3 else array.reshape(shape)
    if array.dtype.itemsize == 2:
        pixels = np.empty(array.shape, "uint8")
        step = max(_STRIP // array.shape[1], 1)
        for top in range(0, len(array), step):
            rows = slice(top, top + step)
            pixels[rows] = _scale(array[rows], max_value or 65535.0, max_value)
        array = pixels
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def is_16_bit_colour(image: Image.Image) -> bool:
    """Returns whether a Pillow image, not loaded yet, has 16 bits per colour."""
    return image.mode in ("RGB", "RGBA", "LA", "CMYK") and any(
        ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
    )


def largest_value(image: Image.Image) -> float | None:
    """Returns the largest value in a loaded Pillow image; `None` if it has 8 bits."""
    if not image.mode.startswith(("I", "F")):
        return None
    return max(float(_extremes(np.asarray(strip))[1]) for _, strip in strips(image))


def round_up(highest: float) -> float:
    """Returns the `max_value` of a dataset whose largest value is `highest`."""
    if highest <= 1:  # integers this small are masks, or the images are empty
        return 1.0
    return float(next((value for value in _LARGEST_VALUES if highest <= value), highest))


def _scale(values: Array, top: float, max_value: float | None) -> Array:
    """Scales values from 0..`top` to 0..255, or raises a `ValueError`."""
    _, high = _extremes(values)
    if high > top:
        raise ValueError(range_problem(f"{high:g}", top, max_value))
    return np.rint(values.astype("float64") * 255 / top).astype("uint8")


def range_problem(highest: Any, top: float, max_value: float | None) -> Any:
    """Returns the message for an image with values up to `highest`, a string (or tensor)."""
    given = "max_value=" if max_value else "the default `max_value` of "
    return (
        "the image has values up to "
        + highest
        + f", above {given}{top:g}. Pass the `max_value` of the camera or the dataset, the same "
        "one for training and prediction."
    )


def colour_problem(max_value: float) -> str:
    """Returns the message for a 16-bit colour image."""
    return (
        "this is a 16-bit colour image. Pillow reads only the upper 8 bits, so it cannot be "
        f"scaled by max_value={max_value:g}. Read it with another library and pass a uint16 "
        "array, or save it with 8 bits."
    )


def _extremes(values: Array) -> tuple[Any, Any]:
    """Returns the smallest and the largest value, or raises a `ValueError`."""
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("the image has values that are NaN or infinite.")
    if low < 0:
        raise ValueError(
            f"the image has negative values ({low:g}). Shift all images in the dataset by "
            "the same amount, so that values start at 0."
        )
    return low, high


def strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yields an image in strips of a few million pixels: the slice of rows and the strip."""
    step = max(_STRIP // max(image.width, 1), 1)
    if image.height <= step:
        yield slice(0, image.height), image
        return
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))
