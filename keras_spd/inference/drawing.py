"""Results as pictures."""

import colorsys
import math

from PIL import Image, ImageDraw, ImageFont

_CAPTIONED = 256  # pixels


def draw_detections(pixels, found):
    """Draws boxes with names and confidences.

    Each name stands at its box where it covers no other name, if there is such a place.

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
    font = ImageFont.load_default(size=max(9, round(max(image.size) / 58)))
    labels = [int(label) for label in found.classes]
    boxes = found.boxes.tolist()
    for box, label in zip(boxes, labels, strict=True):
        draw.rectangle(box, outline=class_colour(label), width=line)
    texts = [
        f"{found.name(label)} {confidence:.2f}"
        for label, confidence in zip(labels, found.confidence, strict=True)
    ]
    _, top, _, bottom = font.getbbox("Ag0")
    sizes = [(round(font.getlength(text)) + 3, round(bottom - top) + 2) for text in texts]
    places = place_labels(boxes, sizes, image.size)
    for (left, upper), size, text, label in zip(places, sizes, texts, labels, strict=True):
        draw.rectangle(
            (left, upper, left + size[0] - 1, upper + size[1] - 1), fill=class_colour(label)
        )
        draw.text((left + 2, upper + 1 - top), text, fill="white", font=font)
    return image


def place_labels(boxes, sizes, image_size):
    """Finds a place for the label of each box: beside it, and on no earlier label where possible.

    Args:
        boxes: List of boxes, xyxy in pixels.
        sizes: `(width, height)` of each label.
        image_size: `(width, height)` of the image.

    Returns:
        List of `(left, top)`, inside of the image. Where every place at a box is taken, the one
        where the label covers the least of others.
    """
    taken: list = []
    for (x1, y1, x2, y2), (width, height) in zip(boxes, sizes, strict=True):
        rows = (y1 - height, y2 + 1, y1 + 1, y2 - height)  # above, below, inside
        places = [(x, y) for y in rows for x in (x1, x2 - width + 1, (x1 + x2 - width) / 2)]
        places += [(x, y) for x in (x2 + 1, x1 - width) for y in (y1, y2 - height)]
        places = [
            (
                round(min(max(x, 0), max(image_size[0] - width, 0))),
                round(min(max(y, 0), max(image_size[1] - height, 0))),
            )
            for x, y in places
        ]
        covered = [_covered(*place, width, height, taken) for place in places]
        left, top = places[covered.index(min(covered))]
        taken.append((left, top, left + width, top + height))
    return [(left, top) for left, top, _, _ in taken]


def _covered(left, top, width, height, others):
    """The area of rectangles that another one covers."""
    return sum(
        max(min(left + width, x2) - max(left, x1), 0) * max(min(top + height, y2) - max(top, y1), 0)
        for x1, y1, x2, y2 in others
    )


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
