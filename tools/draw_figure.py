"""Draws docs/spd.png: what a stride skips, and what space-to-depth keeps, on a real blood cell.

python tools/draw_figure.py docs/spd.png
"""

import sys

from keras_spd import data
from keras_spd.layers import SpaceToDepth

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, MUTED = (30, 30, 40), (110, 110, 120)
COLOURS = [(214, 69, 65), (38, 120, 178), (44, 140, 76), (150, 90, 170)]


def zoom(pixels, factor):
    image = Image.fromarray(pixels.astype("uint8"))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def main(path):
    images, labels = data.load_blood_cells("train").batches(817)[0]
    cell = images[np.flatnonzero(labels == 1)[9]]
    phases = np.split(np.array(SpaceToDepth(2)(cell[None]))[0], 4, axis=-1)

    canvas = Image.new("RGB", (1180, 400), "white")
    draw = ImageDraw.Draw(canvas)
    title, text = ImageFont.load_default(19), ImageFont.load_default(15)

    def caption(x, head, *lines):
        draw.text((x, 18), head, INK, font=title)
        for index, line in enumerate(lines):
            draw.text((x, 318 + 22 * index), line, MUTED, font=text)

    canvas.paste(zoom(cell, 8), (30, 52))
    caption(30, "32 x 32 pixels", "a white blood cell (BCCD)")

    skipped = zoom(cell, 8).convert("L").convert("RGB")
    skipped = Image.blend(skipped, Image.new("RGB", skipped.size, "white"), 0.72)
    for y in range(0, 32, 2):
        for x in range(0, 32, 2):
            box = (8 * x, 8 * y, 8 * x + 8, 8 * y + 8)
            skipped.paste(tuple(int(v) for v in cell[y, x]), box)
    canvas.paste(skipped, (340, 52))
    caption(
        340,
        "stride 2, or a pooling window",
        "a 1x1 convolution of stride 2 reads one pixel",
        "in four; pooling keeps one value of four",
    )

    for index in (3, 2, 1, 0):
        left, top = 690 + 32 * index, 52 + 20 * index
        draw.rectangle((left - 3, top - 3, left + 178, top + 178), fill=COLOURS[index])
        canvas.paste(zoom(phases[index], 11), (left, top))
    patch = 1010
    for index, name in enumerate(("(0, 0)", "(0, 1)", "(1, 0)", "(1, 1)")):
        left, top = patch + 64 * (index % 2), 82 + 64 * (index // 2)
        draw.rectangle((left, top, left + 60, top + 60), fill=COLOURS[index])
        draw.text((left + 11, top + 20), name, "white", font=text)
    draw.text((patch, 218), "each 2x2 patch:", MUTED, font=text)
    draw.text((patch, 240), "4 pixels, 4 phases", MUTED, font=text)
    caption(
        690,
        "space-to-depth: all of them, as channels",
        "16 x 16 x (4 x 3), then a convolution of stride 1:",
        "SpaceToDepth(2), Conv2D(k)  =  Conv2D(2k, stride 2)",
    )
    canvas.save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
