"""Draws the images of a run folder: training images and learning curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_spd.files import whole_file
from keras_spd.images.draw import class_colour, draw_boxes
from keras_spd.images.fonts import drawable, load_font
from keras_spd.typing import Array, Path

_COLUMNS, _ROWS = 4, 3  # at most
_SMALLEST, _LARGEST = 160, 640  # longest side of a tile, pixels
_WIDTH, _GAP = 1300, 4  # of the whole image and between tiles, pixels
_TEXT, _LINE = 13, 18  # pixels
_SPREAD = 20  # largest / smallest loss above which the axis is logarithmic


def draw_training_images(
    images: Array,
    boxes: Array | None,
    path: Path,
    *,
    labels: Array | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Draws the first images of a batch as the network sees them, with boxes and classes.

    Small images are enlarged. Larger ones keep their size, up to 640 pixels, and fewer are drawn.
    The colour of a box shows its class, as in the legend below the images.

    Args:
        images: Array `(batch, height, width, 3)`, pixels 0..255.
        boxes: Array `(batch, boxes, 4)`, xyxy in pixels, padded with negative values; or `None`.
        path: Path of the PNG file.
        labels: With boxes, their classes, integers `(batch, boxes)`. Without boxes, the classes of
            the images, integers `(batch,)`, or soft labels `(batch, classes)`. `None` if unknown.
        class_names: A name for each class; `None` to draw numbers.
    """
    longest = max(images.shape[1:3])
    side = min(max(longest, _SMALLEST), _LARGEST)
    columns, rows = (min(_WIDTH // (side + _GAP), most) for most in (_COLUMNS, _ROWS))
    tiles, present = [], set()
    for index, pixels in enumerate(np.asarray(images)[: columns * rows]):
        tile = _enlarged(pixels, side / longest)
        if boxes is not None:
            valid = (boxes[index][:, 2] > boxes[index][:, 0]) & (boxes[index][:, 0] >= 0)
            classes = np.zeros(len(valid), int) if labels is None else labels[index].astype(int)
            draw_boxes(tile, boxes[index][valid] * (side / longest), classes[valid].tolist())
            present |= set(classes[valid].tolist())
        elif labels is not None:
            tile = _captioned(tile, _describe(labels[index], class_names))
        tiles.append(tile)
    width, height = tiles[0].width + _GAP, tiles[0].height + _GAP
    rows = math.ceil(len(tiles) / columns)
    canvas = Image.new("RGB", (columns * width, rows * height), "gray")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        canvas.paste(tile, (column * width, row * height))
    if labels is not None and present:
        canvas = _with_legend(canvas, sorted(present), class_names)
    with whole_file(path) as unfinished:
        canvas.save(unfinished)


def _enlarged(pixels: Array, scale: float) -> Image.Image:
    pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]
    image = Image.fromarray(pixels.round().clip(0, 255).astype("uint8"))
    if scale == 1:
        return image
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
    return image.resize([max(round(side * scale), 1) for side in image.size], resampling)


def _captioned(tile: Image.Image, text: str) -> Image.Image:
    canvas = Image.new("RGB", (tile.width, tile.height + _LINE), "white")
    canvas.paste(tile, (0, 0))
    draw = ImageDraw.Draw(canvas)
    draw.text((2, tile.height + 1), text, fill="black", font=load_font(text, _TEXT))
    return canvas


def _describe(label: Any, class_names: Sequence[str] | None) -> str:
    """Returns the class of an image, or the two largest of soft labels: `cat 0.7, dog 0.3`."""
    if not np.ndim(label):
        return _name(int(label), class_names)
    parts = [(part, index) for index, part in enumerate(label) if part > 0.01]
    parts = sorted(parts, reverse=True)[:2]
    if len(parts) == 1 or parts[0][0] > 0.9:  # one class, perhaps with smoothed labels
        return _name(parts[0][1], class_names)
    return ", ".join(f"{_name(index, class_names)} {part:.1f}" for part, index in parts)


def _name(label: int, class_names: Sequence[str] | None) -> str:
    return drawable(str(class_names[label] if class_names else label), label)


def _with_legend(
    canvas: Image.Image, classes: Sequence[int], class_names: Sequence[str] | None
) -> Image.Image:
    """Adds a legend of class names and colours below an image."""
    entries, left, top = [], 0, canvas.height
    for label in classes:
        text = _name(label, class_names)
        font = load_font(text, _TEXT)
        width = round(font.getlength(text)) + _LINE + 12
        if left and left + width > canvas.width:
            left, top = 0, top + _LINE
        entries.append((left, top, label, text, font))
        left += width
    picture = Image.new("RGB", (canvas.width, top + _LINE + 2), "white")
    picture.paste(canvas, (0, 0))
    draw = ImageDraw.Draw(picture)
    for left, top, label, text, font in entries:
        draw.rectangle((left + 2, top + 3, left + 13, top + 14), fill=class_colour(label))
        draw.text((left + _LINE, top + 1), text, fill="black", font=font)
    return picture


def draw_learning_curves(log: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plots a log over its epochs: a subplot for each loss, and one for all scores.

    Losses with a wide range get a logarithmic axis. The file is replaced atomically, so it can be
    drawn after every epoch. A log without numbers draws nothing.

    Args:
        log: A dictionary for each epoch; NaN for values that were not measured.
        path: Path of the PNG file.
    """
    from matplotlib.figure import Figure

    subplots = _group_lines(log)
    if not subplots:
        return
    columns = min(len(subplots), 3)
    rows = math.ceil(len(subplots) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid[len(subplots) :]:
        axes.remove()
    for axes, (title, lines) in zip(grid, subplots.items(), strict=False):
        for name, points in lines.items():
            few = sum(len(line) for line in lines.values()) < 20 * len(lines)
            axes.plot(*zip(*points, strict=True), label=name, marker="." if few else "")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.set_xlim(log[0]["epoch"] + 0.5, log[-1]["epoch"] + 1.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        values = [value for points in lines.values() for _, value in points]
        if title == "scores":
            axes.set_ylim(0, 1)
        elif min(values) > 0 and max(values) > _SPREAD * min(values):
            axes.set_yscale("log")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=100)


def _group_lines(
    log: Sequence[Mapping[str, float]],
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Returns `{title: {label of a line: [(epoch, value), ...]}}`, the total loss first."""
    subplots: dict[str, dict[str, list[tuple[float, float]]]] = {"loss": {}}
    for name in [name for name in (log or [{}])[0] if name not in ("epoch", "learning_rate")]:
        points = [(row["epoch"] + 1, row[name]) for row in log if np.isfinite(row[name])]
        if not points:
            continue
        base = name.removeprefix("val_").replace("_", " ")
        split = "validation" if name.startswith("val_") else "training"
        if base.endswith("loss"):
            subplots.setdefault(base, {})[split] = points
        elif all(0 <= value <= 1 for _, value in points):
            subplots.setdefault("scores", {})[f"{split} {base}"] = points
        else:  # of a user's callback
            subplots.setdefault(base, {})[split] = points
    if "scores" in subplots:
        subplots["scores"] = subplots.pop("scores")  # last
    return {title: lines for title, lines in subplots.items() if lines}
