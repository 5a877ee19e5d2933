"""Decodes common JPEG files without Python's lock, to the same pixels as Pillow."""

import cv2
import numpy as np
from PIL import Image

from keras_spd.typing import Array

_END = b"\xff\xd9"


def decode(content: bytes, opened: Image.Image) -> Array | None:
    """Decodes a JPEG file with OpenCV.

    Pillow and OpenCV both decode with libjpeg-turbo, so the pixels are equal. Pillow then copies
    them twice while it holds Python's lock, which limits how many threads can read images.

    Args:
        content: The bytes of the file.
        opened: The file as opened by Pillow, which checked its header and size.

    Returns:
        uint8 array of shape `(height, width, 3)`, RGB; `None` for files that are left to Pillow:
        other formats, CMYK, and files that may be cut off.
    """
    if opened.format != "JPEG" or opened.mode not in ("L", "RGB"):
        return None
    ends = content.count(_END) - opened.info.get("exif", b"").count(_END)  # not of the thumbnail
    if ends != 1 or not content.endswith(_END):
        return None  # OpenCV would fill missing rows with grey
    try:
        pixels = cv2.imdecode(
            np.frombuffer(content, "uint8"),
            cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION,
        )
    except cv2.error:
        return None
    size_hw = (opened.height, opened.width)
    return pixels if pixels is not None and pixels.shape[:2] == size_hw else None
