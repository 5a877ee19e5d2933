"""One image with one box as COCO, VOC and YOLO data, and images as EXIF shows them."""

import json

import numpy as np


def write_coco(folder, size):
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def write_yolo(folder, size):
    height, width = size
    (folder / "images" / "a.txt").write_text(
        f"0 {3.5 / width} {5 / height} {5 / width} {6 / height}"
    )
    return folder / "images"


def write_voc(folder, size):
    (folder / "a.xml").write_text(
        f"<annotation><filename>a.png</filename><size><width>{size[1]}</width>"
        f"<height>{size[0]}</height></size><object><name>cat</name><bndbox><xmin>2</xmin>"
        "<ymin>3</ymin><xmax>6</xmax><ymax>8</ymax></bndbox></object></annotation>"
    )
    return folder


def as_shown(stored, orientation):
    """Rotates an array as the EXIF standard says, with only NumPy."""
    return {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(stored),
    }[orientation]
