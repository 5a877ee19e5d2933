"""Image files to pixels: RGB, 8 bits, upright, or an error that names the file."""

import io
import os
import pathlib
import stat
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageOps

from keras_spd.images import depth
from keras_spd.typing import Array, Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
_BROKEN = (  # what Pillow raises on broken pixels and EXIF data
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error),
    Image.DecompressionBombError,
)
_SIDEWAYS = {  # EXIF orientations that swap height and width, and what undoes them
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class ImageError(ValueError):
    """An image that cannot be read. The message names the file."""


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


def open_image(source: Path | bytes, name: str | None = None) -> Image.Image:
    """Opens an image and reads its header, not yet its pixels.

    Args:
        source: Path, or the bytes of an encoded image.
        name: What errors call it; defaults to the path.

    Returns:
        `PIL.Image.Image`.

    Raises:
        ImageError: If there is no such file, or it is not an image.
    """
    name = name or ("image" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes):
        check_file(source)
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file.") from None
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{name}: {error} If you trust the file, set `PIL.Image.MAX_IMAGE_PIXELS = None`; "
            "`keras-spd predict --tile` does."
        ) from error
    except (OSError, PIL.UnidentifiedImageError) as error:
        raise ImageError(f"{name}: cannot be read as an image ({error}).") from error


def image_size(source: Path | bytes, name: str | None = None) -> tuple[int, int]:
    """Returns height and width as the image is shown: turned as its EXIF data say."""
    return image_sizes(source, name)[0]


def image_sizes(
    source: str | os.PathLike | bytes, name: str | None = None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns height and width as the image is shown, and as its pixels are stored.

    They differ where EXIF data turn an image by a quarter, and annotations may be made on either.

    Args:
        source: Path, or the bytes of an encoded image.
        name: What errors call it; defaults to the path.

    Raises:
        ImageError: If there is no such file, or it is not an image.
    """
    with open_image(source, name) as image:
        stored = _stored_size(image)
        return stored[::-1] if _orientation(image) in _SIDEWAYS else stored, stored


def _stored_size(image: Any) -> tuple[int, int]:
    """Returns height and width before the image is turned as its EXIF data say."""
    if image.format == "TIFF":  # Pillow turns it while loading, and may know the size already
        return image.tag_v2[257], image.tag_v2[256]
    return image.height, image.width


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, as far as it is known without decoding the image."""
    if "exif" not in image.info and image.format != "TIFF":
        return 1  # `getexif` would decode a whole PNG to look for it behind the pixels
    try:
        return image.getexif().get(0x0112, 1)
    except _BROKEN:
        return 1


def to_rgb(
    image: Any,
    name: str | None = None,
    *,
    size_hw: tuple[int, int] | None = None,
    max_value: float | None = None,
) -> Image.Image:
    """Makes an image of any kind an upright one of mode RGB, of which memory holds one copy.

    Grayscale, palette and CMYK become RGB, of an animation the first frame is taken, and
    transparency is dropped. An image is turned as its EXIF data say.

    Args:
        image: Path, bytes of an encoded image, image of Pillow, or uint8 or uint16 array of shape
            `(height, width)`, `(height, width, 1)`, `(height, width, 3)` (RGB) or
            `(height, width, 4)` (RGBA).
        name: What errors call it; defaults to the path.
        size_hw: Height and width in the annotations; `None` if unknown. If they fit the image as
            it is stored and not as it is shown, it is left as it is stored.
        max_value: The value that becomes 255 in images of more than 8 bits, e.g. 4095 for a camera
            of 12 bits. One for a whole data set and the model trained on it: no image is scaled by
            its own values. Defaults to 65535 for integers and to 1.0 for floating point. Images of
            8 bits stay as they are.

    Returns:
        `PIL.Image.Image` of mode RGB.

    Raises:
        ImageError: If the image is missing, broken, not of the annotated size, of another kind,
            or has values that are negative, NaN or above `max_value`.
        ValueError: If `max_value` is not a positive number.

    Example:

    >>> picture = to_rgb("thermal.tif", max_value=16383)
    >>> picture = to_rgb(np.zeros((480, 640), "uint16"))
    """
    max_value = depth.check_max_value(max_value)
    if isinstance(image, (str, bytes, os.PathLike)):
        name = name or ("image" if isinstance(image, bytes) else str(image))
        with open_image(image, name) as opened:
            return _upright_rgb(opened, name, size_hw, max_value)
    name = name or "image"
    if isinstance(image, Image.Image):
        return _upright_rgb(image, name, size_hw, max_value)
    try:
        picture = depth.from_array(image, max_value)
    except ValueError as error:
        raise ImageError(f"{name}: {error}") from None
    return _of_size(picture, name, size_hw)


def _upright_rgb(
    image: Image.Image, name: str, size_hw: tuple[int, int] | None, max_value: float | None
) -> Image.Image:
    """Does what `to_rgb` says to an image of Pillow."""
    try:
        stored, orientation = _stored_size(image), _orientation(image)
        bits16 = depth.is_16_bit_colour(image)
        if orientation != 1:
            image = ImageOps.exif_transpose(image)
        image.load()
    except _BROKEN as error:
        raise ImageError(f"{name}: the image is broken ({error}).") from error
    try:
        picture = depth.to_8_bits(image, max_value, bits16)
    except ValueError as error:
        raise ImageError(f"{name}: {error}") from None
    if (
        orientation in _SIDEWAYS
        and size_hw is not None
        and stored == tuple(size_hw) != (picture.height, picture.width)
    ):
        picture = picture.transpose(_SIDEWAYS[orientation])  # annotated on the pixels as stored
    return _of_size(picture, name, size_hw)


def _of_size(picture: Image.Image, name: str, size_hw: tuple[int, int] | None) -> Image.Image:
    if size_hw is not None and (picture.height, picture.width) != tuple(size_hw):
        raise ImageError(
            f"{name}: the image has height and width {(picture.height, picture.width)}, but the "
            f"annotations say {tuple(size_hw)}."
        )
    return picture


def find_max_value(
    images: Iterable[str | os.PathLike | bytes], on_problem: str = "error"
) -> float | None:
    """Finds the `max_value` of a data set whose images have more than 8 bits.

    Args:
        images: Paths, or the bytes of encoded images, of the training data. Images of 8 bits are
            not decoded.
        on_problem: `"error"`, or `"skip"` to pass over images that cannot be read.

    Returns:
        The largest value in them, up to the next of 255, 1023, 4095, 16383 and 65535 (8 to 16
        bits), or 1.0 if none is larger; `None` if no image has more than 8 bits.

    Raises:
        ImageError: If an image cannot be read, or has values that are negative or NaN, and
            `on_problem` is `"error"`.

    Example:

    >>> max_value = find_max_value(pathlib.Path("thermal/train").glob("*.tif"))
    >>> train = keras_spd.data.load_detection("thermal/train.json", max_value=max_value)
    """
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
    """Returns the largest value in an image of more than 8 bits, else `None`."""
    name = "image" if isinstance(source, bytes) else str(source)
    with open_image(source, name) as image:
        if not image.mode.startswith(("I", "F")):
            return None
        try:
            image.load()
            return depth.largest_value(image)
        except _BROKEN as error:
            raise ImageError(f"{name}: {error}") from error


def read_image(
    source: str | os.PathLike | bytes,
    name: str | None = None,
    size_hw: tuple[int, int] | None = None,
    max_value: float | None = None,
) -> np.ndarray:
    """Reads an image as an array.

    Args:
        source: Path, or the bytes of an encoded image.
        name, size_hw, max_value: As in `to_rgb`, which also tells what becomes of other modes.

    Returns:
        uint8 array of shape `(height, width, 3)`.

    Raises:
        ImageError: As `to_rgb`.
    """
    return to_array(to_rgb(source, name, size_hw=size_hw, max_value=max_value))


def to_array(picture: Image.Image) -> Array:
    """Returns the pixels of an RGB image of Pillow as a uint8 array `(height, width, 3)`.

    `np.asarray` would make two copies more on its way.
    """
    pixels = np.empty((picture.height, picture.width, 3), "uint8")
    for rows, strip in depth.strips(picture):
        pixels[rows] = strip
    return pixels


def find_images(folder: Path) -> list[pathlib.Path]:
    """Returns the paths of all image files in a folder and its subfolders, sorted."""
    paths = pathlib.Path(folder).rglob("*")
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
