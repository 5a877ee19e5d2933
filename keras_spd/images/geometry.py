"""Geometry of images: how one is put into another size, and boxes with it.

Coordinates are continuous: the pixel in column 0 covers x from 0 to 1.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from PIL import Image

from keras_spd.typing import Array, Tensor

GRAY = 114  # the authors' colour of empty pixels


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """How an image is put into another size: scaled by `scale`, then moved right and down.

    Args:
        scale: Number, network pixels per original pixel, the same in both directions.
        left: Number, in network pixels.
        top: Number, in network pixels.
        image_size_hw: Height and width of the original image.

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
        """The largest image that fits, in the middle."""
        (height, width), (network_height, network_width) = image_size_hw, network_size_hw
        scale = min(network_height / height, network_width / width)
        left, top = (network_width - width * scale) / 2, (network_height - height * scale) / 2
        return cls(scale, left, top, (int(height), int(width)))

    @staticmethod
    def canvas(
        image_sizes_hw: Sequence[Sequence[int]], network_size_hw: Sequence[int], stride: int
    ) -> tuple[int, int]:
        """The smallest network input for a batch: images keep the scale they have in a larger one.

        Args:
            image_sizes_hw: Heights and widths of the original images.
            network_size_hw: Height and width that the images are fitted into.
            stride: Integer that height and width of the result are multiples of.

        Returns:
            `(height, width)`, at most `network_size_hw`.

        Example:

        >>> Letterbox.canvas([(480, 640), (400, 640)], (320, 320), 32)
        (256, 320)
        """
        scales = [Letterbox.fit(size, network_size_hw).scale for size in image_sizes_hw]
        sides = np.max(np.array(image_sizes_hw) * np.array(scales)[:, None], axis=0)
        height, width = (math.ceil(round(side, 3) / stride) * stride for side in sides)
        return height, width

    def to_network(self, boxes_xyxy: Any) -> Array:
        """Boxes in the original image to boxes in network pixels; NumPy, `(boxes, 4)`."""
        return np.asarray(boxes_xyxy) * self.scale + [self.left, self.top, self.left, self.top]

    def to_image(self, boxes_xyxy: Any) -> Array:
        """Boxes in network pixels to boxes in the original image, clipped to it."""
        height, width = self.image_size_hw
        boxes = (np.asarray(boxes_xyxy) - [self.left, self.top, self.left, self.top]) / self.scale
        return np.clip(boxes, 0, [width, height, width, height])


def letterbox(pixels: Array | Image.Image, image_size: Sequence[int]) -> tuple[Array, Letterbox]:
    """Puts an image into the middle of a gray canvas, as large as it fits.

    Args:
        pixels: uint8 array of shape `(height, width, 3)`, or an RGB image of Pillow.
        image_size: `(height, width)` of the result.

    Returns:
        uint8 array of shape `(*image_size, 3)`, and the `Letterbox` that maps boxes.
    """
    canvas = np.full((*image_size, 3), GRAY, "uint8")
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    fit = Letterbox.fit((picture.height, picture.width), image_size)
    place(canvas, picture, np.zeros((0, 4)), fit.scale, (fit.left, fit.top))
    return canvas, fit


def stretch(pixels: Array | Image.Image, image_size: Sequence[int]) -> Array:
    """Resizes an image to `(height, width)` whatever its shape, by bilinear interpolation.

    Args:
        pixels: uint8 array of shape `(height, width, 3)`, or an RGB image of Pillow.
        image_size: `(height, width)` of the result.

    Returns:
        uint8 array of shape `(*image_size, 3)`.
    """
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    height, width = image_size
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def letterbox_in_graph(
    pixels: Tensor, image_size: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Does as `letterbox` in a TensorFlow graph, to within a level of a pixel.

    Args:
        pixels: Tensor of shape `(height, width, 3)`, 0 to 255.
        image_size: `(height, width)` of the result.

    Returns:
        float32 tensor of shape `(*image_size, 3)`, and what maps boxes: the scale, the image's
        corner on the canvas and the size of the original image, both of these as xyxy.
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
    # Only whole pixels that the image covers; the canvas is gray.
    rows, columns = np.arange(height, dtype="float32"), np.arange(width, dtype="float32")
    inside_rows = (rows >= top - 1e-4) & (rows + 1 <= top + sides[0] * scale + 1e-4)
    inside_columns = (columns >= left - 1e-4) & (columns + 1 <= left + sides[1] * scale + 1e-4)
    inside = inside_rows[:, None, None] & inside_columns[None, :, None]
    canvas = tf.where(inside, tf.round(tf.clip_by_value(placed, 0.0, 255.0)), float(GRAY))
    limits = tf.stack([sides[1], sides[0], sides[1], sides[0]])
    return canvas, scale, tf.stack([left, top, left, top]), limits


def stretch_in_graph(pixels: Tensor, image_size: Sequence[int]) -> Tensor:
    """Does as `stretch` in a TensorFlow graph, to within a level of a pixel.

    Args:
        pixels: Tensor of shape `(height, width, 3)` or `(images, height, width, 3)`, 0 to 255.
        image_size: `(height, width)` of the result.

    Returns:
        float32 tensor of whole numbers.
    """
    import tensorflow as tf

    return tf.round(tf.image.resize(pixels, image_size, antialias=True))


def place(
    canvas: Array, pixels: Array | Image.Image, boxes: Any, scale: float, corner: Any
) -> Array:
    """Draws an image on a canvas, scaled and at a place, and moves its boxes along.

    Args:
        canvas: uint8 array, drawn on. What lies outside of it is cut off.
        pixels: uint8 array, the image, or an RGB image of Pillow.
        boxes: Array of shape `(boxes, 4)`, xyxy in pixels of the image.
        scale: Number, canvas pixels per pixel of the image.
        corner: x and y of the image's top left corner on the canvas.

    Returns:
        The boxes in pixels of the canvas, not clipped.
    """
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    corner = np.asarray(corner, "float64")
    size = np.array(picture.size)
    # Whole pixels of the canvas that the image covers; edges within 1e-6 of a pixel count.
    start = np.maximum(np.ceil(corner - 1e-6), 0).astype(int)
    end = np.minimum(np.floor(corner + size * scale + 1e-6), canvas.shape[1::-1]).astype(int)
    if (end > start).all():
        source = np.concatenate([(start - corner) / scale, (end - corner) / scale])
        source = source.clip(0, [*size, *size])
        resized = picture.resize(tuple(end - start), Image.Resampling.BILINEAR, box=tuple(source))
        canvas[start[1] : end[1], start[0] : end[0]] = np.asarray(resized)
    return np.asarray(boxes, "float64").reshape(-1, 4) * scale + np.tile(corner, 2)
