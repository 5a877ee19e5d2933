"""Lays out pictures: coloured arrays, captions, columns."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from PIL import Image, ImageDraw

from keras_spd.explain.network_input import check_model
from keras_spd.images.fonts import load_font
from keras_spd.typing import Array

TILE, CAM, LARGE = 120, 180, 240  # longest side of a picture, pixels
_GAP, _TEXT, _ROW = 6, 14, 4  # pixels, pixels, tiles
_OVER = 0.7  # largest opacity of a heat map


def named_models(models: keras.Model | Mapping[str, keras.Model]) -> dict[str, keras.Model]:
    """Returns `{name: model}`, also for a single model."""
    if isinstance(models, Mapping):
        if not models:
            raise ValueError("`models` is empty. Pass a model, or at least one by name.")
        return dict(models)
    check_model(models)
    return {models.name: models}


def colour(values: Array, scale: bool = True, colours: str = "viridis") -> Array:
    """Maps an array to colours.

    Args:
        values: Array of shape `(height, width)`.
        scale: Boolean, whether to scale from the 1st to the 99th percentile instead of from 0 to
            1.
        colours: Name of a matplotlib colour map.

    Returns:
        uint8 array of shape `(height, width, 3)`, RGB.
    """
    from matplotlib import colormaps

    if scale:
        low, high = np.percentile(values, (1, 99))
        values = ((values - low) / ((high - low) or 1)).clip(0, 1)
    return (colormaps[colours](values)[..., :3] * 255).round().astype("uint8")


def tile(pixels: Array, side: int = TILE) -> Image.Image:
    """Returns pixels as a picture with a given longest side; enlarged pixels stay sharp."""
    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    return image.resize([max(round(length * scale), 1) for length in image.size], resampling)


def captioned(
    text: str, pictures: Sequence[Image.Image], *, columns: int = _ROW, bold: bool = False
) -> Image.Image:
    """Returns pictures in rows below a line of text."""
    font = load_font(text, _TEXT + 3 * bold)
    width = max((picture.width for picture in pictures), default=0) + _GAP
    height = max((picture.height for picture in pictures), default=0) + _GAP
    columns = min(columns, len(pictures)) or 1
    top = _TEXT + 3 * bold + 2 * _GAP
    text_width = round(font.getlength(text)) + 2 * _GAP
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (max(columns * width, text_width), top + rows * height), "white")
    ImageDraw.Draw(canvas).text((1, _GAP // 2), text, fill="black", font=font)
    for place, picture in enumerate(pictures):
        canvas.paste(picture, (place % columns * width, top + place // columns * height))
    return canvas


def side_by_side(grid: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Returns columns of pictures side by side, with aligned rows."""
    rows = [max(picture.height for picture in row) for row in zip(*grid, strict=True)]
    widths = [max(picture.width for picture in column) for column in grid]
    size = (
        sum(widths) + (len(widths) - 1) * 4 * _GAP + 2 * _GAP,
        sum(rows) + (len(rows) + 1) * _GAP,
    )
    canvas = Image.new("RGB", size, "white")
    left = _GAP
    for column, width in zip(grid, widths, strict=True):
        top = _GAP
        for picture, height in zip(column, rows, strict=True):
            canvas.paste(picture, (left, top))
            top += height + _GAP
        left += width + 4 * _GAP
    return canvas


def overlay(pixels: Array, heat: Array, side: int = CAM) -> Image.Image:
    """Draws a heat map, values 0..1, over an image; where it is 0, the image is unchanged."""
    image = np.asarray(tile(pixels, side)).astype("float32")
    heat = np.asarray(Image.fromarray(heat.astype("float32")).resize(image.shape[1::-1], 2))
    heat = heat.clip(0, 1)
    weight = _OVER * (2 * heat).clip(0, 1)[..., None]
    # Yellow to red is visible on black and on white.
    mixed = (1 - weight) * image + weight * colour(heat, scale=False, colours="autumn_r")
    return Image.fromarray(mixed.round().astype("uint8"))


def heat_scale(side: int = CAM) -> Image.Image:
    """Returns a colour scale of `overlay` from 1 to 0, on white and on black."""
    heat = np.repeat(np.linspace(1, 0, side)[:, None], 32, axis=1)
    pixels = np.full((side, 32, 3), 255, "uint8")
    pixels[:, 16:] = 0
    canvas = Image.new("RGB", (60, side), "white")
    canvas.paste(overlay(pixels, heat, side), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for text, top in (("1", 0), ("0.5", side // 2 - _TEXT // 2), ("0", side - _TEXT - 3)):
        draw.text((36, top), text, fill="black", font=load_font(text, _TEXT - 2))
    return canvas
