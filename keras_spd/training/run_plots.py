"""Pictures in the run folder: what the network was shown, and how it learned."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_spd.files import whole_file
from keras_spd.images.draw import class_colour, draw_boxes
from keras_spd.images.fonts import drawable, load_font
from keras_spd.typing import Array, Path

_COLUMNS, _ROWS = 4, 3  # images, at most
_SMALLEST, _LARGEST, _PICTURE, _GAP = 160, 640, 1300, 4  # sides of images and of all, pixels
_TEXT, _LINE = 13, 18  # pixels
_SPREAD = 20  # largest over smallest loss from which on their axis is logarithmic


def draw_training_images(
    images: Array,
    boxes: Array | None,
    path: Path,
    *,
    labels: Array | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Draws the first images of a batch as the network gets them, with boxes and classes.

    Small images are enlarged; larger ones have their full size, up to 640 pixels, and there are
    as many as fit. Classes of boxes are told by colours, which a line below explains.

    Args:
        images: Array `(batch, height, width, 3)`, pixels 0..255.
        boxes: Array `(batch, boxes, 4)`, xyxy in pixels, negative where there is none; or `None`.
        path: Path of the picture.
        labels: With boxes, an integer array `(batch, boxes)` of their classes; without, `(batch,)`,
            the classes of the images, or `(batch, classes)`, the share of each class in them.
            `None` where they are not known.
        class_names: A name for each class; `None` for their numbers.
    """
    longest = max(images.shape[1:3])
    side = min(max(longest, _SMALLEST), _LARGEST)
    columns, rows = (min(_PICTURE // (side + _GAP), most) for most in (_COLUMNS, _ROWS))
    tiles, present = [], set()
    for place, pixels in enumerate(np.asarray(images)[: columns * rows]):
        tile = _enlarged(pixels, side / longest)
        if boxes is not None:
            there = (boxes[place][:, 2] > boxes[place][:, 0]) & (boxes[place][:, 0] >= 0)
            classes = np.zeros(len(there), int) if labels is None else labels[place].astype(int)
            draw_boxes(tile, boxes[place][there] * (side / longest), classes[there].tolist())
            present |= set(classes[there].tolist())
        elif labels is not None:
            tile = _captioned(tile, _describe(labels[place], class_names))
        tiles.append(tile)
    step = tiles[0].width + _GAP, tiles[0].height + _GAP
    size = columns * step[0], -(-len(tiles) // columns) * step[1]
    canvas = Image.new("RGB", size, "gray")
    for place, tile in enumerate(tiles):
        canvas.paste(tile, (place % columns * step[0], place // columns * step[1]))
    if labels is not None and present:
        canvas = _with_legend(canvas, sorted(present), class_names)
    with whole_file(path) as unfinished:
        canvas.save(unfinished)


def _enlarged(pixels: Array, scale: float) -> Image.Image:
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
    """Returns the name of an image's class, or what it is mixed of: `cat 0.7, dog 0.3`."""
    if not np.ndim(label):
        return _name(int(label), class_names)
    shares = [(share, index) for index, share in enumerate(label) if share > 0.01]
    shares = sorted(shares, reverse=True)[:2]
    if len(shares) == 1 or shares[0][0] > 0.9:  # one class, perhaps with smoothed labels
        return _name(shares[0][1], class_names)
    return ", ".join(f"{_name(index, class_names)} {share:.1f}" for share, index in shares)


def _name(label: int, class_names: Sequence[str] | None) -> str:
    return drawable(str(class_names[label] if class_names else label), label)


def _with_legend(
    canvas: Image.Image, classes: Sequence[int], class_names: Sequence[str] | None
) -> Image.Image:
    """Adds names in the colours of their classes below a picture."""
    places, left, top = [], 0, canvas.height
    for label in classes:
        text = _name(label, class_names)
        font = load_font(text, _TEXT)
        width = round(font.getlength(text)) + _LINE + 12
        if left and left + width > canvas.width:
            left, top = 0, top + _LINE
        places.append((left, top, label, text, font))
        left += width
    picture = Image.new("RGB", (canvas.width, top + _LINE + 2), "white")
    picture.paste(canvas, (0, 0))
    draw = ImageDraw.Draw(picture)
    for left, top, label, text, font in places:
        draw.rectangle((left + 2, top + 3, left + 13, top + 14), fill=class_colour(label))
        draw.text((left + _LINE, top + 1), text, fill="black", font=font)
    return picture


def draw_learning_curves(log: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draws the columns of a log over its epochs: a panel for each loss, and one for the scores.

    Losses that spread far have a logarithmic axis. A picture that is there is replaced at once, so
    that it can be drawn after each epoch. Without a number there is no picture.

    Args:
        log: List of dictionaries, one for each epoch; NaN where nothing was measured.
        path: Path of the picture.
    """
    from matplotlib.figure import Figure

    panels = _panels(log)
    if not panels:
        return
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        for name, points in lines.items():
            few = sum(len(line) for line in lines.values()) < 20 * len(lines)
            axes.plot(*zip(*points, strict=True), label=name, marker="." if few else "")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.set_xlim(0.5, len(log) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        values = [value for points in lines.values() for _, value in points]
        if title == "scores":
            axes.set_ylim(0, 1)
        elif min(values) > 0 and max(values) > _SPREAD * min(values):
            axes.set_yscale("log")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=100)


def _panels(log: Sequence[Mapping[str, float]]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Returns `{title: {name of a line: [(epoch, value), ...]}}`, the total loss first."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {"loss": {}}
    for name in [name for name in (log or [{}])[0] if name not in ("epoch", "learning_rate")]:
        points = [(row["epoch"] + 1, row[name]) for row in log if np.isfinite(row[name])]
        if not points:
            continue
        base = name.removeprefix("val_").replace("_", " ")
        split = "validation" if name.startswith("val_") else "training"
        if base.endswith("loss"):
            panels.setdefault(base, {})[split] = points
        else:
            panels.setdefault("scores", {})[f"{split} {base}"] = points
    if "scores" in panels:
        panels["scores"] = panels.pop("scores")  # last
    return {title: lines for title, lines in panels.items() if lines}
