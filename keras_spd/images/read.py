"""Image files to pixels: RGB, 8 bits, upright, or an error that names the file."""

import io
import pathlib
import struct

import numpy as np
import PIL
from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
_STRIP = 2**22  # pixels


class ImageError(ValueError):
    """An image that cannot be read. The message names the file."""


def open_image(source, name=None):
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


def image_size(source, name=None):
    """Returns height and width as the image is shown: turned as its EXIF data say."""
    with open_image(source, name) as image:
        height, width = image.height, image.width
        return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def _orientation(image):
    """Returns the EXIF orientation, as far as it is known without decoding the image."""
    if "exif" not in image.info and image.format != "TIFF":
        return 1  # `getexif` would decode a whole PNG to look for it behind the pixels
    try:
        return image.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, struct.error):
        return 1


def read_picture(source, name=None, size_hw=None):
    """Reads an image as one of Pillow, of which there is one copy in memory, 4 bytes a pixel.

    Args:
        source, name, size_hw: As in `read_image`, which tells what becomes of other modes.

    Returns:
        `PIL.Image.Image` of mode RGB.

    Raises:
        ImageError: If the image is missing, broken, or not of the annotated size.
    """
    name = name or ("image" if isinstance(source, bytes) else str(source))
    with open_image(source, name) as image:
        try:
            stored = (image.height, image.width)
            turned = _orientation(image) != 1
            if turned and (size_hw is None or stored != tuple(size_hw)):
                image = ImageOps.exif_transpose(image)
            if image.mode.startswith(("I", "F")):
                image = _to_8_bits(image)
            image.load()
            picture = image if image.mode == "RGB" else image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ImageError(f"{name}: the image is broken ({error}).") from error
    if size_hw is not None and (picture.height, picture.width) != tuple(size_hw):
        raise ImageError(
            f"{name}: the image has height and width {(picture.height, picture.width)}, but the "
            f"annotations say {tuple(size_hw)}."
        )
    return picture


def read_image(source, name=None, size_hw=None):
    """Reads an image as an array.

    Grayscale, palette, CMYK and 16-bit images become RGB with 8 bits, of an animation the first
    frame is taken, and transparency is dropped. An image is turned as its EXIF data say, unless
    it has the annotated size without.

    Args:
        source: Path, or the bytes of an encoded image.
        name: What errors call it; defaults to the path.
        size_hw: Height and width in the annotations; `None` if unknown.

    Returns:
        uint8 array of shape `(height, width, 3)`.

    Raises:
        ImageError: If the image is missing, broken, or not of the annotated size.
    """
    return to_array(read_picture(source, name, size_hw))


def to_array(picture):
    """Returns the pixels of an RGB image of Pillow as a uint8 array `(height, width, 3)`.

    `np.asarray` would make two copies more on its way.
    """
    pixels = np.empty((picture.height, picture.width, 3), "uint8")
    for rows, strip in _strips(picture):
        pixels[rows] = strip
    return pixels


def _strips(image):
    """Yields slices of rows and the image's part there, of some million pixels."""
    step = max(_STRIP // max(image.width, 1), 1)
    if image.height <= step:
        yield slice(0, image.height), image
        return
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _to_8_bits(image):
    """An image of 16 or 32 bits as gray values: the full range to 8 bits."""
    highest = max(np.asarray(strip, "float64").max() for _, strip in _strips(image))
    top = 65535.0 if highest > 255 else 255.0
    gray = Image.new("L", image.size)
    for rows, strip in _strips(image):
        values = np.asarray(strip, "float64") * (255 / top)
        gray.paste(Image.fromarray(values.clip(0, 255).astype("uint8")), (0, rows.start))
    return gray


def find_images(folder):
    """Returns the paths of all image files in a folder and its subfolders, sorted."""
    paths = pathlib.Path(folder).rglob("*")
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
