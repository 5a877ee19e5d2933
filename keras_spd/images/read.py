"""Reads image files as upright 8-bit RGB; errors name the file."""

import io
import os
import pathlib
import stat
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from keras_spd.checks import check_choice
from keras_spd.images import depth, jpeg
from keras_spd.typing import Array, Path

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
BROKEN = (  # what Pillow raises on broken pixels and EXIF data
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error),
    Image.DecompressionBombError,
)
_SIDEWAYS = {  # EXIF orientations that swap height and width, and the transpose that undoes each
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


class ImageError(ValueError):
    """An image that cannot be read. The message names the file."""


def check_file(path: str | os.PathLike) -> None:
    """Rejects paths that are not regular files, such as pipes, which may never end.

    A missing file passes; opening it raises the error.

    Args:
        path: Path.

    Raises:
        ImageError: If the path is a folder, a pipe or a device, or contains a NUL byte.
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
    """Opens an image and reads its header, but not its pixels.

    Args:
        source: Path, or the bytes of an encoded image.
        name: Name used in error messages; defaults to the path.

    Returns:
        `PIL.Image.Image`.

    Raises:
        ImageError: If the file does not exist or is not an image.
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
            "`--tile` does."
        ) from error
    except BROKEN as error:
        raise ImageError(f"{name}: cannot be read as an image ({error}).") from error


def image_size(source: Path | bytes, name: str | None = None) -> tuple[int, int]:
    """Returns the height and width of the image as displayed, after its EXIF orientation."""
    return image_sizes(source, name)[0]


def image_sizes(
    source: str | os.PathLike | bytes, name: str | None = None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the height and width of the image as displayed, and as stored.

    They differ if the EXIF orientation rotates the image by 90 degrees. Annotation tools use
    either.

    Args:
        source: Path, or the bytes of an encoded image.
        name: Name used in error messages; defaults to the path.

    Returns:
        `((height, width), (height, width))`, displayed and stored, in pixels.

    Raises:
        ImageError: If the file does not exist or is not an image.
    """
    with open_image(source, name) as image:
        stored = _stored_size(image)
        return stored[::-1] if _orientation(image) in _SIDEWAYS else stored, stored


def _stored_size(image: Any) -> tuple[int, int]:
    """Returns the height and width before the EXIF orientation is applied."""
    if image.format == "TIFF":  # Pillow rotates it on load and may already report the new size
        return image.tag_v2[257], image.tag_v2[256]
    return image.height, image.width


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation if it can be read without decoding the image, otherwise 1."""
    if "exif" not in image.info and image.format != "TIFF":
        return 1  # `getexif` would decode a whole PNG to look for EXIF data after the pixels
    try:
        return image.getexif().get(0x0112, 1)
    except BROKEN:
        return 1


def bytes_to_read(size_hw: tuple[int, int]) -> int:
    """Returns the memory that an image of this size takes while it is read.

    Pillow stores 4 bytes per pixel, and an array of them has 3.
    """
    return 7 * size_hw[0] * size_hw[1]


def memory_to_read(image: Any) -> int:
    """Returns `bytes_to_read` of a path or encoded image; 0 for other and unreadable ones."""
    if not isinstance(image, (str, bytes, os.PathLike)):
        return 0
    try:
        return bytes_to_read(image_size(image))
    except ImageError:
        return 0


def to_rgb(
    image: Any,
    name: str | None = None,
    *,
    size_hw: tuple[int, int] | None = None,
    max_value: float | None = None,
) -> Image.Image:
    """Converts any image to an upright RGB image, with a single copy in memory.

    Grayscale, palette and CMYK images become RGB, only the first frame of an animation is used,
    and transparency is dropped. The EXIF orientation is applied.

    Args:
        image: Path, bytes of an encoded image, Pillow image, or uint8 or uint16 array of shape
            `(height, width)`, `(height, width, 1)`, `(height, width, 3)` (RGB) or
            `(height, width, 4)` (RGBA).
        name: Name used in error messages; defaults to the path.
        size_hw: Height and width according to the annotations; `None` if unknown. If they match
            the stored size but not the displayed size, the EXIF orientation is not applied.
        max_value: The value that maps to 255 in images with more than 8 bits, e.g. 4095 for a
            12-bit camera. Use one value for a dataset and the model trained on it; images are
            never scaled by their own maximum. Defaults to 65535 for integers and 1.0 for floats.
            8-bit images are not changed.

    Returns:
        `PIL.Image.Image` of mode RGB.

    Raises:
        ImageError: If the image is missing, broken, not of the annotated size or of an
            unsupported type, or has values that are negative, NaN or above `max_value`.
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
    """Implements `to_rgb` for a Pillow image."""
    try:
        stored, orientation = _stored_size(image), _orientation(image)
        bits16 = depth.is_16_bit_colour(image)
        if orientation != 1:
            image = ImageOps.exif_transpose(image)
        image.load()
    except BROKEN as error:
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
        picture = picture.transpose(_SIDEWAYS[orientation])  # annotated on the stored pixels
    return _of_size(picture, name, size_hw)


def _of_size(picture: Image.Image, name: str, size_hw: tuple[int, int] | None) -> Image.Image:
    _check_size((picture.height, picture.width), name, size_hw)
    return picture


def _check_size(size: tuple[int, int], name: str, size_hw: tuple[int, int] | None) -> None:
    if size_hw is not None and size != tuple(size_hw):
        raise ImageError(
            f"{name}: the image has height and width {size}, but the annotations give "
            f"{tuple(size_hw)}."
        )


def check_on_problem(on_problem: str) -> None:
    """Raises a `ValueError` unless `on_problem` is `"error"` or `"skip"`."""
    check_choice("on_problem", on_problem, ("error", "skip"))


def read_image(
    source: str | os.PathLike | bytes,
    name: str | None = None,
    size_hw: tuple[int, int] | None = None,
    max_value: float | None = None,
) -> np.ndarray:
    """Reads an image as an array.

    Args:
        source: Path, or the bytes of an encoded image.
        name, size_hw, max_value: As in `to_rgb`, which also describes how other modes are
            converted.

    Returns:
        uint8 array of shape `(height, width, 3)`.

    Raises:
        ImageError: As in `to_rgb`.
    """
    max_value = depth.check_max_value(max_value)
    name = name or ("image" if isinstance(source, bytes) else str(source))
    with open_image(source, name) as opened:
        if opened.format == "JPEG" and _orientation(opened) == 1:
            content = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
            pixels = jpeg.decode(content, opened)
            if pixels is not None:
                _check_size((opened.height, opened.width), name, size_hw)
                return pixels
        return to_array(_upright_rgb(opened, name, size_hw, max_value))


def to_array(picture: Image.Image) -> Array:
    """Returns the pixels of a Pillow RGB image as a uint8 array of shape `(height, width, 3)`.

    `np.asarray` would make two further copies on the way.
    """
    pixels = np.empty((picture.height, picture.width, 3), "uint8")
    for rows, strip in depth.strips(picture):
        pixels[rows] = strip
    return pixels


def find_images(folder: Path) -> list[pathlib.Path]:
    """Returns the paths of all image files in a folder and its subfolders, sorted.

    Hidden files and folders are skipped, as in `find_visible`.
    """
    return sorted(path for path in find_visible(folder) if path.suffix.lower() in SUFFIXES)


def find_visible(folder: Path) -> Iterator[pathlib.Path]:
    """Yields everything in a folder and its subfolders whose names do not start with a dot.

    Jupyter keeps copies of images in `.ipynb_checkpoints`, and macOS a `._a.png` for `a.png`. Links
    to folders are followed; each folder is read once.
    """
    known = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in known:  # two links, or a link to a folder above
            folders.clear()
            continue
        known.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = [*folders, *(name for name in files if not name.startswith("."))]
        yield from (pathlib.Path(root, name) for name in visible)
