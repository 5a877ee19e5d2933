"""A drawn detection data set: white rectangles and grey discs on black, as COCO files."""

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
