"""Detections as pictures."""

import colorsys

from PIL import Image, ImageDraw, ImageFont


def draw_detections(pixels, found):
    """Draws boxes with names and confidences.

    Args:
        pixels: uint8 array of shape `(height, width, 3)`, the original image.
        found: `Detections` in it.

    Returns:
        `PIL.Image.Image` of the same size.
    """
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    line = max(1, round(max(image.size) / 500))
    font = ImageFont.load_default(size=max(10, round(max(image.size) / 55)))
    for box, confidence, label in zip(
        found.boxes.tolist(), found.confidence, found.classes, strict=True
    ):
        colour = class_colour(int(label))
        draw.rectangle(box, outline=colour, width=line)
        text = f"{found.name(int(label))} {confidence:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        x = min(box[0], image.width - right - 2)
        y = box[1] - bottom - 2 if box[1] > bottom + 2 else box[3] + 1
        draw.rectangle((x, y, x + right + 2, y + bottom + 2), fill=colour)
        draw.text((x + 1, y + 1), text, fill="white", font=font)
    return image


def class_colour(label):
    """Returns a colour, `(red, green, blue)`, that differs from those of the classes around it."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618 % 1, 0.9, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)
