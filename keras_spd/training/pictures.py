"""Pictures in the run folder: what the network was shown, and how it learned."""

import numpy as np
from PIL import Image, ImageDraw

_TILE, _COLUMNS, _ROWS = 160, 4, 3  # pixels, images


def draw_training_images(images, boxes, path):
    """Draws the first images of a batch as the network gets them, with their boxes.

    Args:
        images: Array `(batch, height, width, 3)`, pixels 0..255.
        boxes: Array `(batch, boxes, 4)`, xyxy in pixels, negative where there is none; or `None`.
        path: Path of the picture.
    """
    canvas = Image.new("RGB", (_COLUMNS * _TILE, _ROWS * _TILE), "white")
    for place, pixels in enumerate(np.asarray(images)[: _COLUMNS * _ROWS]):
        image = Image.fromarray(pixels.round().clip(0, 255).astype("uint8"))
        scale = (_TILE - 4) / max(image.size)
        resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
        image = image.resize([max(round(side * scale), 1) for side in image.size], resampling)
        draw = ImageDraw.Draw(image)
        for box in [] if boxes is None else boxes[place]:
            if box[2] > box[0] >= 0:
                draw.rectangle([float(side) * scale for side in box], outline="red")
        canvas.paste(image, (place % _COLUMNS * _TILE + 2, place // _COLUMNS * _TILE + 2))
    canvas.save(path)


def draw_learning_curves(log, path):
    """Draws the columns of a log over its epochs: losses in one panel, scores in the other.

    Args:
        log: List of dictionaries, one for each epoch; NaN where nothing was measured.
        path: Path of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    for name in [name for name in log[0] if name not in ("epoch", "learning_rate")]:
        points = [(row["epoch"] + 1, row[name]) for row in log if row[name] == row[name]]
        panel = losses if "loss" in name else scores
        if points:
            panel.plot(
                *zip(*points, strict=True), label=name, marker="." if len(points) < 20 else ""
            )
    for panel, title in ((losses, "loss"), (scores, "score")):
        panel.set_xlabel("epoch")
        panel.set_title(title)
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend()
    figure.savefig(path, dpi=110)
