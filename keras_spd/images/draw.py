"""Draws detections and classifications on images."""

import colorsys
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_spd.files import whole_file
from keras_spd.images.fonts import drawable, load_font
from keras_spd.typing import Array, Path

JPEG = (".jpg", ".jpeg")

_CAPTIONED = 256  # pixels
_SMALLEST_TEXT = 11  # pixels
_TEXT_OVER_TEXT = 4  # cost of covering a label, relative to covering a box


def draw_detections(pixels: Array | Image.Image, found: Any, *, labels: bool = True) -> Image.Image:
    """Draws boxes with class names and confidences, as `draw_boxes` does.

    Args:
        pixels: The original image: a uint8 array of shape `(height, width, 3)`, which is copied,
            or a Pillow RGB image, which is drawn on.
        found: `Detections` of that image.
        labels: Boolean, whether to write class names and confidences.

    Returns:
        `PIL.Image.Image` of the same size.

    Example:

    >>> [found] = keras_spd.Predictor("detector.keras")("street.jpg")
    >>> draw_detections(to_rgb("street.jpg"), found).save("found.png")
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    classes = [int(label) for label in found.classes]
    texts = [
        f"{drawable(found.name(label), label)} {confidence:.2f}"
        for label, confidence in zip(classes, found.confidence, strict=True)
    ]
    draw_boxes(image, found.boxes, classes, texts if labels else None)
    return image


def draw_boxes(
    image: Image.Image, boxes: Array, labels: Sequence[int], texts: Sequence[str] | None = None
) -> None:
    """Draws boxes in the colours of their classes, each with a label.

    Lines are drawn around a box, not over the object. The smaller the boxes, the thinner the
    lines and the smaller the labels. Labels are placed where they cover other boxes and labels
    least.

    Args:
        image: Pillow RGB image, which is drawn on.
        boxes: Array of shape `(boxes, 4)`, xyxy in pixels.
        labels: List of integers, the classes.
        texts: List of strings, the labels; `None` to draw boxes only.
    """
    if not len(boxes):
        return
    draw = ImageDraw.Draw(image)
    boxes = np.asarray(boxes, "float64")
    side = max(image.size)
    usual = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(axis=1)))
    line = round(min(max(1, side / 500), max(1, usual / 16)))
    size = round(min(max(_SMALLEST_TEXT, side / 58), max(_SMALLEST_TEXT, usual / 2)))
    limit = np.array([*image.size, *image.size]) - 1
    # The pixels just outside a box; at the edge of the image, the outermost pixels.
    outlines = np.concatenate([np.floor(boxes[:, :2]) - line, np.ceil(boxes[:, 2:]) - 1 + line], 1)
    outlines = outlines.clip(0, limit)
    if texts is not None:
        _draw_texts(image, outlines, labels, texts, size)
    # Last, so that no label covers the outline of a box. The first, most confident box is on top.
    for outline, label in reversed(list(zip(outlines.tolist(), labels, strict=True))):
        draw.rectangle(outline, outline=class_colour(label), width=line)


def _draw_texts(
    image: Image.Image, outlines: Array, labels: Sequence[int], texts: Sequence[str], size: int
) -> None:
    draw = ImageDraw.Draw(image)
    fonts = [load_font(text, size) for text in texts]
    ascent, descent = fonts[0].getmetrics()
    height = ascent + descent
    sizes = [
        (round(font.getlength(text)) + 4, height) for font, text in zip(fonts, texts, strict=True)
    ]
    positions = place_labels(outlines, sizes, image.size)
    for (left, top), (width, _), text, font, label in zip(
        positions, sizes, texts, fonts, labels, strict=True
    ):
        colour = class_colour(label)
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
        ink = "black" if np.dot(colour, (0.299, 0.587, 0.114)) > 140 else "white"
        draw.text((left + 2, top + ascent), text, fill=ink, font=font, anchor="ls")


def place_labels(
    boxes: Array, sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]
) -> list[tuple[int, int]]:
    """Places the label of each box next to it, where it covers other boxes and labels least.

    Args:
        boxes: Array of shape `(boxes, 4)`, xyxy in pixels, the last pixel included.
        sizes: `(width, height)` of each label, in pixels.
        image_size: `(width, height)` of the image, in pixels.

    Returns:
        List of `(left, top)` in pixels, inside the image: the first candidate position at which
        the label covers the smallest fraction of other boxes and earlier labels.
    """
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] + 1], axis=1)
    taken = np.zeros_like(boxes)  # of the labels so far
    for index, ((x1, y1, x2, y2), (width, height)) in enumerate(zip(boxes, sizes, strict=True)):
        columns = (x1, x2 - width, (x1 + x2 - width) / 2)
        positions = [(x, y) for y in (y1 - height, y2) for x in columns]  # above and below
        positions += [(x, y) for x in (x2, x1 - width) for y in (y1, y2 - height)]  # beside
        positions += [(x, y) for y in (y1, y2 - height) for x in columns]  # inside
        room = np.maximum(np.subtract(image_size, (width, height)), 0)
        positions = np.round(np.clip(positions, 0, room))
        # Boxes further away than the label is long cannot be covered.
        reach = np.array([x1 - width, y1 - height, x2 + width, y2 + height])
        cost = _covered_fractions(positions, (width, height), _near(boxes, reach))
        cost += _TEXT_OVER_TEXT * _covered_fractions(
            positions, (width, height), _near(taken[:index], reach)
        )
        best = positions[np.argmin(np.round(cost, 6))]
        taken[index] = *best, *(best + (width, height))
    return [(int(left), int(top)) for left, top in taken[:, :2]]


def _near(boxes: Array, reach: Array) -> Array:
    return boxes[((boxes[:, :2] < reach[2:]) & (boxes[:, 2:] > reach[:2])).all(axis=1)]


def _covered_fractions(positions: Array, size: tuple[int, int], others: Array) -> Array:
    """Returns, for each position, the summed fractions of other rectangles that a label covers."""
    start = np.maximum(positions[:, None], others[None, :, :2])
    end = np.minimum(positions[:, None] + size, others[None, :, 2:])
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return ((end - start).clip(0).prod(axis=2) / np.maximum(areas, 1)).sum(axis=1)


def draw_classes(pixels: Array | Image.Image, found: Any) -> Image.Image:
    """Writes the classes and their confidence below an image. Small images are enlarged.

    Args:
        pixels: uint8 array of shape `(height, width, 3)`, or a Pillow RGB image.
        found: `Classification` of that image.

    Returns:
        `PIL.Image.Image`.

    Example:

    >>> [found] = keras_spd.predict.Classifier("cifar10")("photo.jpg")
    >>> draw_classes(to_rgb("photo.jpg"), found).save("classes.png")
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    factor = max(1, round(_CAPTIONED / max(image.size)))
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    size = max(12, round(max(image.size) / 30))
    lines = [
        f"{entry['confidence']:.3f}  {drawable(entry['name'], entry['class'])}"
        for entry in found.to_json()
    ]
    fonts = [load_font(line, size) for line in lines]
    widths = [font.getlength(line) for font, line in zip(fonts, lines, strict=True)]
    step = round(1.3 * size)
    bottom = image.height + len(lines) * step + 8
    picture = Image.new("RGB", (max(image.width, math.ceil(max(widths)) + 8), bottom), "white")
    picture.paste(image, (0, 0))
    draw = ImageDraw.Draw(picture)
    for place, (line, font) in enumerate(zip(lines, fonts, strict=True)):
        draw.text((4, image.height + 2 + place * step), line, fill="black", font=font)
    return picture


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a picture to a file; JPEG with a quality at which thin lines keep their colours."""
    with whole_file(path) as unfinished:
        if unfinished.suffix.lower() in JPEG:
            picture.save(unfinished, quality=95, subsampling=0)
        else:
            picture.save(unfinished)


def class_colour(label: int) -> tuple[int, int, int]:
    """Returns a colour `(red, green, blue)`, 0..255, that differs from those of nearby classes."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618 % 1, 0.9, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)
