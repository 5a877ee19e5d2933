"""Resizes images and their boxes: letterboxing and stretching.

Coordinates are continuous: the pixel in column 0 covers x from 0 to 1.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from PIL import Image

from keras_spd.images.sizes import check_image_size
from keras_spd.typing import Array, Tensor

GRAY = 114  # the authors' fill colour


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """How an image is letterboxed: scaled by `scale`, then shifted right and down.

    Args:
        scale: Number, network pixels per original pixel, the same in both directions.
        left: Number, the shift to the right in network pixels.
        top: Number, the shift down in network pixels.
        image_size_hw: Height and width of the original image, in pixels.

    Example:

    >>> letterbox = Letterbox.fit((480, 640), (320, 320))
    >>> letterbox.scale, letterbox.left, letterbox.top
    (0.5, 0.0, 40.0)
    """

    scale: float
    left: float
    top: float
    image_size_hw: tuple[int, int]

    @classmethod
    def fit(cls, image_size_hw: Sequence[int], network_size_hw: Sequence[int]) -> Self:
        """Scales the image to the largest size that fits, and centres it.

        Args:
            image_size_hw: Height and width of the original image, in pixels.
            network_size_hw: Height and width of the network's input, in pixels.

        Returns:
            `Letterbox`.
        """
        (height, width), (network_height, network_width) = image_size_hw, network_size_hw
        scale = min(network_height / height, network_width / width)
        left, top = (network_width - width * scale) / 2, (network_height - height * scale) / 2
        return cls(scale, left, top, (int(height), int(width)))

    @staticmethod
    def canvas(
        image_sizes_hw: Sequence[Sequence[int]], network_size_hw: Sequence[int], stride: int
    ) -> tuple[int, int]:
        """Returns the smallest network input for a batch that does not change the images' scale.

        Args:
            image_sizes_hw: Heights and widths of the original images.
            network_size_hw: Height and width that the images are letterboxed into.
            stride: Integer; the height and width of the result are multiples of it.

        Returns:
            `(height, width)` in pixels, at most `network_size_hw`.

        Example:

        >>> Letterbox.canvas([(480, 640), (400, 640)], (320, 320), 32)
        (256, 320)
        """
        scales = [Letterbox.fit(size, network_size_hw).scale for size in image_sizes_hw]
        sides = np.max(np.array(image_sizes_hw) * np.array(scales)[:, None], axis=0)
        height, width = (math.ceil(round(side, 3) / stride) * stride for side in sides)
        return height, width

    def to_network(self, boxes_xyxy: Any) -> Array:
        """Maps boxes, an array of shape `(boxes, 4)`, from original to network pixels."""
        return np.asarray(boxes_xyxy) * self.scale + [self.left, self.top, self.left, self.top]

    def to_image(self, boxes_xyxy: Any) -> Array:
        """Maps boxes, `(boxes, 4)`, from network to original pixels, clipped to the image."""
        height, width = self.image_size_hw
        boxes = (np.asarray(boxes_xyxy) - [self.left, self.top, self.left, self.top]) / self.scale
        return np.clip(boxes, 0, [width, height, width, height])


def letterbox(
    pixels: Array | Image.Image, image_size: int | Sequence[int]
) -> tuple[Array, Letterbox]:
    """Scales an image to fit a grey canvas, and centres it.

    Args:
        pixels: uint8 array of shape `(height, width, 3)`, or a Pillow RGB image.
        image_size: Integer or `(height, width)` of the result, in pixels.

    Returns:
        uint8 array of shape `(height, width, 3)`, and the `Letterbox` that maps boxes.

    Example:

    >>> canvas, fit = letterbox(pixels, (320, 320))
    """
    image_size = check_image_size(image_size)
    canvas = np.full((*image_size, 3), GRAY, "uint8")
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    fit = Letterbox.fit((picture.height, picture.width), image_size)
    corner, size = np.array([fit.left, fit.top]), np.array(picture.size)
    # Canvas pixels fully covered by the image, with a tolerance of 1e-6 pixels.
    start = np.maximum(np.ceil(corner - 1e-6), 0).astype(int)
    end = np.minimum(np.floor(corner + size * fit.scale + 1e-6), canvas.shape[1::-1]).astype(int)
    if (end > start).all():
        source = np.concatenate([(start - corner) / fit.scale, (end - corner) / fit.scale])
        source = source.clip(0, [*size, *size])
        resized = picture.resize(tuple(end - start), Image.Resampling.BILINEAR, box=tuple(source))
        canvas[start[1] : end[1], start[0] : end[0]] = np.asarray(resized)
    return canvas, fit


def stretch(pixels: Array | Image.Image, image_size: Sequence[int]) -> Array:
    """Resizes an image to `(height, width)`, ignoring its aspect ratio, with bilinear sampling.

    Args:
        pixels: uint8 array of shape `(height, width, 3)`, or a Pillow RGB image.
        image_size: `(height, width)` of the result, in pixels.

    Returns:
        uint8 array of shape `(*image_size, 3)`.
    """
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    height, width = image_size
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def letterbox_in_graph(
    pixels: Tensor, image_size: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`letterbox` in a TensorFlow graph; pixel values differ by at most 1.

    Args:
        pixels: Tensor of shape `(height, width, 3)`, 0..255.
        image_size: `(height, width)` of the result, in pixels.

    Returns:
        float32 tensor of shape `(*image_size, 3)`, and three tensors that map boxes: the scale,
        the image's corner on the canvas as `(x, y, x, y)`, and the original size as
        `(width, height, width, height)`.
    """
    import tensorflow as tf

    height, width = image_size
    sides = tf.cast(tf.shape(pixels)[:2], tf.float32)
    scale = tf.minimum(height / sides[0], width / sides[1])
    top, left = (height - sides[0] * scale) / 2, (width - sides[1] * scale) / 2
    placed = tf.raw_ops.ScaleAndTranslate(
        images=pixels[None],
        size=image_size,
        scale=tf.stack([scale, scale]),
        translation=tf.stack([top, left]),
        kernel_type="triangle",
        antialias=True,
    )[0]
    # Only whole pixels that the image covers; the canvas is grey.
    rows, columns = np.arange(height, dtype="float32"), np.arange(width, dtype="float32")
    near = 1e-4 + 2e-7 * max(height, width)  # products are rounded to float32
    inside_rows = (rows >= top - near) & (rows + 1 <= top + sides[0] * scale + near)
    inside_columns = (columns >= left - near) & (columns + 1 <= left + sides[1] * scale + near)
    inside = inside_rows[:, None, None] & inside_columns[None, :, None]
    canvas = tf.where(inside, tf.round(tf.clip_by_value(placed, 0.0, 255.0)), float(GRAY))
    limits = tf.stack([sides[1], sides[0], sides[1], sides[0]])
    return canvas, scale, tf.stack([left, top, left, top]), limits


def stretch_in_graph(pixels: Tensor, image_size: Sequence[int]) -> Tensor:
    """`stretch` in a TensorFlow graph; pixel values differ by at most 1.

    Args:
        pixels: Tensor of shape `(height, width, 3)` or `(images, height, width, 3)`, 0..255.
        image_size: `(height, width)` of the result, in pixels.

    Returns:
        float32 tensor of whole numbers, of shape `(*image_size, 3)` or `(images, *image_size, 3)`.
    """
    import tensorflow as tf

    return tf.round(tf.image.resize(pixels, image_size, antialias=True))
