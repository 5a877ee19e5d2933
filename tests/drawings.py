"""A drawn detection dataset: white rectangles and grey discs on black, as COCO files."""

import json

import numpy as np
from PIL import Image, ImageDraw


def write_drawings(folder, count=8, size=(64, 96), seed=0):
    """Writes `count` images of `size` (height, width) and `labels.json`, and returns its path."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        picture = Image.new("RGB", size[::-1])
        draw = ImageDraw.Draw(picture)
        for corner in ((2, 2), (size[1] // 2, size[0] // 2 - 4)):
            x, y = (int(start + rng.integers(0, 8)) for start in corner)
            width, height = (int(side) for side in rng.integers(12, 24, 2))
            label = int(rng.integers(2))
            shape, colour = ((draw.rectangle, "white"), (draw.ellipse, "gray"))[label]
            shape((x, y, x + width - 1, y + height - 1), fill=colour)
            annotation = {"image_id": index, "category_id": label, "iscrowd": 0}
            annotations.append(
                annotation
                | {
                    "id": len(annotations) + 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                }
            )
        picture.save(folder / "images" / f"{index}.png")
        record = {"id": index, "file_name": f"{index}.png"}
        images.append(record | {"height": size[0], "width": size[1]})
    categories = [{"id": 0, "name": "rectangle"}, {"id": 1, "name": "disc"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def write_cells(folder, count, seed=0, side=96):
    """Writes COCO files of drawn cells, four per image, most of which the preset `bccd` finds."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(count):
        picture = Image.new("RGB", (side, side), (225, 215, 220))
        draw = ImageDraw.Draw(picture)
        for corner in ((4, 4), (52, 6), (6, 54), (54, 52)):
            dark = int(rng.integers(4) == 0)
            x, y = (int(start + rng.integers(0, 6)) for start in corner)
            size = int(rng.integers(32, 38) if dark else rng.integers(24, 30))
            fill, outline = ("#825aa5", "#5a3282") if dark else ("#cd96a5", "#b96e82")
            draw.ellipse((x, y, x + size - 1, y + size - 1), fill=fill, outline=outline)
            if not dark:
                start, end = size // 3, 2 * size // 3
                draw.ellipse((x + start, y + start, x + end, y + end), fill="#dcb4be")
            annotation = {"id": len(annotations) + 1, "image_id": index, "category_id": dark}
            annotations.append(annotation | {"bbox": [x, y, size, size], "area": size * size})
        picture.save(folder / "images" / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "height": side, "width": side})
    categories = [{"id": 0, "name": "pale"}, {"id": 1, "name": "dark"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"
