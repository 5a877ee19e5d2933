"""Results as pictures."""

import colorsys
import math

from PIL import Image, ImageDraw, ImageFont

_CAPTIONED = 256  # pixels


def draw_detections(pixels, found):
    """Draws boxes with names and confidences.

    Args:
        pixels: uint8 array of shape `(height, width, 3)`, the original image, which is copied; or
            an RGB image of Pillow, which is drawn on.
        found: `Detections` in it.

    Returns:
        `PIL.Image.Image` of the same size.
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
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


def draw_classes(pixels, found):
    """Puts classes and their confidence under an image, small images enlarged to be seen.

    Args:
        pixels: uint8 array of shape `(height, width, 3)`, or an RGB image of Pillow.
        found: `Classes` of it.

    Returns:
        `PIL.Image.Image`.
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    factor = max(1, round(_CAPTIONED / max(image.size)))
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    font = ImageFont.load_default(size=max(12, round(max(image.size) / 30)))
    lines = [f"{entry['confidence']:.3f}  {entry['name']}" for entry in found.to_json()]
    text = "\n".join(lines)
    box = ImageDraw.Draw(image).multiline_textbbox((0, 0), text, font=font)
    right, bottom = math.ceil(box[2]), math.ceil(box[3])
    picture = Image.new("RGB", (max(image.width, right + 8), image.height + bottom + 8), "white")
    picture.paste(image, (0, 0))
    ImageDraw.Draw(picture).multiline_text((4, image.height + 2), text, fill="black", font=font)
    return picture


def class_colour(label):
    """Returns a colour, `(red, green, blue)`, that differs from those of the classes around it."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618 % 1, 0.9, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)
