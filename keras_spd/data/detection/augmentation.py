"""Augments images with boxes, as pure functions of a random generator.

A single operation transforms pixels and boxes: an image is scaled and placed on a canvas.
Letterboxing, scaling, translation and mosaic are all this operation, so an image is resampled only
once, and boxes stay aligned with pixels. OpenCV does the work on pixels: it takes a quarter of
Pillow's time, and other threads run meanwhile.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

import cv2
import numpy as np

from keras_spd.images.geometry import GRAY, Letterbox
from keras_spd.typing import Array

cv2.setNumThreads(0)  # images are made in several threads; OpenCV's own would compete with them
_SIZES, _MULTIPLE = 5, 32  # number of sizes with `multi_scale`, and what their sides divide by
Sample: TypeAlias = tuple[Array, Array, Array]  # pixels, boxes, classes


@dataclasses.dataclass(frozen=True)
class DetectionAugmentation:
    """Random augmentation of training images and their boxes, as in the authors' recipe.

    All values are numbers from 0 to 1.

    Args:
        mosaic: Probability of combining four images around a random centre.
        mixup: Probability of blending the result with that of other images.
        scale: Zooms by a factor between `1 - scale` and `1 + scale`.
        translate: Shifts by up to this fraction of the image's sides.
        horizontal_flip: Probability of a flip.
        vertical_flip: Probability of a flip.
        hue: Multiplies the hue by a random factor from `1 - hue` to `1 + hue`, as YOLOv5 does.
        saturation: Changes the saturation by a factor between `1 - saturation` and
            `1 + saturation`.
        value: Changes the brightness by a factor between `1 - value` and `1 + value`.
        multi_scale: Changes the image size of each batch by a factor between `1 - multi_scale` and
            `1 + multi_scale`, to one of at most five sizes in multiples of 32 pixels. A step with
            the largest size takes the most memory: at 0.5, 2.25 times that of the plain size.

    Raises:
        ValueError: If an argument is not between 0 and 1.

    Example:

    >>> augmentation = keras_spd.data.DetectionAugmentation(mosaic=1.0, horizontal_flip=0.5)
    >>> batches = train.batches(16, (320, 320), shuffle=True, augmentation=augmentation)

    Source: `LoadImagesAndLabels` in `YOLOv5-SPD/utils/datasets.py` of LabSAINT/SPD-Conv.
    """

    mosaic: float = 0.0
    mixup: float = 0.0
    scale: float = 0.0
    translate: float = 0.0
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    value: float = 0.0
    multi_scale: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(
                    f"`{field.name}` must be between 0 and 1. "
                    f"Received: {field.name}={getattr(self, field.name)!r}."
                )

    def image_sizes(self, image_size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Returns the sizes of batches: at most five, because a compiler compiles a step for each.

        Args:
            image_size: `(height, width)` without `multi_scale`, in pixels.
        """
        if not self.multi_scale:
            return (image_size,)
        factors = np.linspace(1 - self.multi_scale, 1 + self.multi_scale, _SIZES)
        sizes = [
            tuple(max(round(side * factor / _MULTIPLE), 1) * _MULTIPLE for side in image_size)
            for factor in factors
        ]
        return tuple((height, width) for height, width in dict.fromkeys(sizes))

    def apply(
        self,
        index: int,
        load: Callable[[int], Sample],
        others: Array,
        image_size: tuple[int, int],
        rng: np.random.Generator,
    ) -> Sample:
        """Makes one training image.

        Args:
            index: Integer, index of the image.
            load: Function from an index to pixels (uint8), xyxy boxes in pixels, and classes.
            others: Integer array, indices to draw the other images of mosaic and mixup from.
            image_size: `(height, width)` of the result, in pixels.
            rng: `numpy.random.Generator`. The same state gives the same image.

        Returns:
            Pixels, a uint8 array of shape `(height, width, 3)`; xyxy boxes in its pixels,
            `(boxes, 4)`; and classes, `(boxes,)`.
        """
        image, boxes, classes = self._compose(index, load, others, image_size, rng)
        if rng.random() < self.mixup:
            other = self._compose(int(rng.choice(others)), load, others, image_size, rng)
            weight = rng.beta(32, 32)
            image = cv2.addWeighted(image, weight, other[0], 1 - weight, 0)
            boxes = np.concatenate([boxes, other[1]])
            classes = np.concatenate([classes, other[2]])
        if self.hue or self.saturation or self.value:
            gains = 1 + rng.uniform(-1, 1, 3) * (self.hue, self.saturation, self.value)
            image = jitter_hsv(image, *gains)
        height, width = image.shape[:2]
        if rng.random() < self.horizontal_flip:
            image = cv2.flip(image, 1)
            boxes = _mirror(boxes, width, 0)
        if rng.random() < self.vertical_flip:
            image = cv2.flip(image, 0)
            boxes = _mirror(boxes, height, 1)
        return image, boxes.astype("float32"), classes

    def _compose(
        self,
        index: int,
        load: Callable[[int], Sample],
        others: Array,
        image_size: tuple[int, int],
        rng: np.random.Generator,
    ) -> Sample:
        """Returns one image, or a mosaic of four, scaled and shifted."""
        height, width = image_size
        zoom = rng.uniform(1 - self.scale, 1 + self.scale)
        shift = rng.uniform(-self.translate, self.translate, 2) * (width, height)
        middle = np.array([width, height]) / 2
        canvas = np.full((height, width, 3), GRAY, "uint8")
        if rng.random() >= self.mosaic:
            pixels, boxes, classes = load(index)
            fit = Letterbox.fit(pixels.shape[:2], image_size)
            corner = (np.array([fit.left, fit.top]) - middle) * zoom + middle + shift
            boxes = place(canvas, pixels, boxes, fit.scale * zoom, corner)
            return (canvas, *_visible(boxes, classes, image_size))

        # Four images meet near the middle of a canvas of twice the size. Without zoom, its middle
        # half is visible.
        indices = (index, *rng.choice(others, 3))
        meeting = rng.uniform(0.5, 1.5, 2) * (width, height)
        meeting = ((meeting - (width, height)) * zoom + middle + shift).round()  # on the canvas
        all_boxes, all_classes = [], []
        corners = ((1, 1), (0, 1), (1, 0), (0, 0))  # the corner of each image at the meeting point
        for which, anchor in zip(indices, corners, strict=True):
            pixels, boxes, classes = load(int(which))
            scale = Letterbox.fit(pixels.shape[:2], image_size).scale * zoom
            size = np.array(pixels.shape[1::-1]) * scale
            corner = meeting - size * anchor
            boxes = place(canvas, pixels, boxes, scale, corner)
            all_boxes.append(boxes)
            all_classes.append(classes)
        boxes, classes = np.concatenate(all_boxes), np.concatenate(all_classes)
        return (canvas, *_visible(boxes, classes, image_size))


def _mirror(boxes: Array, side: int, axis: int) -> Array:
    boxes = boxes.copy()
    boxes[:, [axis, axis + 2]] = side - boxes[:, [axis + 2, axis]]
    return boxes


def _visible(boxes: Array, classes: Array, image_size: tuple[int, int]) -> tuple[Array, Array]:
    """Clips boxes to the canvas and drops those that are hardly visible.

    A box is kept if its sides are above 2 pixels, more than a tenth of its area is visible, and
    its aspect ratio is below 20 (`box_candidates` in the authors' `utils/augmentations.py`).
    """
    height, width = image_size
    clipped = np.clip(boxes, 0, [width, height, width, height])
    sides, before = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    area = sides.prod(axis=1) / np.maximum(before.prod(axis=1), 1e-9)
    ratio = sides.max(axis=1, initial=0) / np.maximum(sides.min(axis=1, initial=np.inf), 1e-9)
    keep = (sides > 2).all(axis=1) & (area > 0.1) & (ratio < 20)
    return clipped[keep], np.asarray(classes)[keep]


def place(canvas: Array, pixels: Array, boxes: Array, scale: float, corner: Array) -> Array:
    """Draws a scaled image at a position on a canvas, and maps its boxes.

    The visible part starts and ends between pixels, of the image and of the canvas, so position
    and size are rounded by less than a pixel; boxes are mapped exactly as the pixels are. Images
    are averaged over 2x2, 4x4, ... pixels first if they are scaled by less than a half, a quarter,
    ..., and then sampled bilinearly: no pixel is skipped.

    Args:
        canvas: uint8 array of shape `(height, width, 3)`, modified in place. Parts of the image
            outside the canvas are cut off.
        pixels: uint8 array of shape `(height, width, 3)`.
        boxes: Array of shape `(boxes, 4)`, xyxy in image pixels.
        scale: Number, canvas pixels per image pixel.
        corner: x and y of the image's top left corner, in canvas pixels.

    Returns:
        float64 array of shape `(boxes, 4)`, xyxy in canvas pixels, not clipped.
    """
    step = 2 ** max(math.floor(-math.log2(scale)), 0)
    left, right, x, x_end = _visible_part(
        float(corner[0]), pixels.shape[1], scale, step, canvas.shape[1]
    )
    top, bottom, y, y_end = _visible_part(
        float(corner[1]), pixels.shape[0], scale, step, canvas.shape[0]
    )
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)
    if right <= left or bottom <= top:
        return boxes * scale + (*corner, *corner)
    part = pixels[y:y_end, x:x_end]
    if step > 1:
        size = ((x_end - x) // step, (y_end - y) // step)
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    # OpenCV writes into the canvas.
    cv2.resize(part, (right - left, bottom - top), dst=canvas[top:bottom, left:right])
    across, down = (right - left) / (x_end - x), (bottom - top) / (y_end - y)
    shift = (left - across * x, top - down * y)
    return boxes * (across, down, across, down) + (*shift, *shift)


def _visible_part(
    corner: float, side: int, scale: float, step: int, room: int
) -> tuple[int, int, int, int]:
    """Returns start and end on the canvas, and start and end in the image, along one axis.

    Those in the image are multiples of `step`.
    """
    start, end = max(round(corner), 0), min(round(corner + side * scale), room)
    steps = max(side // step, 1)
    first = min(max(round((start - corner) / scale / step), 0), steps - 1)
    last = min(max(round((end - corner) / scale / step), first + 1), steps)
    return start, end, first * step, last * step


def jitter_hsv(pixels: Array, hue: float, saturation: float, value: float) -> Array:
    """Multiplies hue (modulo the circle), saturation and value of an RGB image by factors."""
    table = np.outer(np.arange(256), (hue, saturation, value))
    table[:, 0] %= 256
    table = np.minimum(table, 255).astype("uint8")
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
    hsv = cv2.LUT(hsv, table[None], dst=hsv)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
