"""Cuts the 32x32 blood cells in the package out of the BCCD images.

    python tools/build_blood_cells.py BCCD_FOLDER keras_spd/data/classification/blood_cells

BCCD_FOLDER holds `images/` and COCO annotations `annotations/instances_{train,val,test}.json` of
https://github.com/Shenggan/BCCD_Dataset (MIT). Training cells come from the training images, test
cells from the other two splits. Red cells are far more common than white cells and platelets, so
only two are taken from each image.
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image

CLASSES = ("RBC", "WBC", "Platelets")
SIDE = 32
MARGIN = 1.2  # of the longer side of the box
PER_IMAGE = {"RBC": 2}


def cut(image, box):
    """Returns the square around a box; beyond the image, the image's border is repeated."""
    left, top, width, height = box
    side = MARGIN * max(width, height)
    x, y = left + width / 2 - side / 2, top + height / 2 - side / 2
    margin = int(side) + 1
    padded = Image.fromarray(
        np.pad(np.asarray(image), ((margin,) * 2, (margin,) * 2, (0, 0)), "edge")
    )
    corners = (x + margin, y + margin, x + margin + side, y + margin + side)
    return np.asarray(padded.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=corners))


def cells(folder, split):
    """Yields images and labels of one split."""
    content = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for entry in content["images"]:
        image = Image.open(folder / "images" / entry["file_name"]).convert("RGB")
        taken = dict.fromkeys(CLASSES, 0)
        for annotation in content["annotations"]:
            name = names[annotation["category_id"]]
            if annotation["image_id"] != entry["id"] or min(annotation["bbox"][2:]) < 8:
                continue
            taken[name] += 1
            if taken[name] <= PER_IMAGE.get(name, 100):
                yield cut(image, annotation["bbox"]), CLASSES.index(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bccd", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    for split, parts in {"train": ("train",), "test": ("val", "test")}.items():
        pairs = [pair for part in parts for pair in cells(arguments.bccd, part)]
        images, labels = (np.array(column, "uint8") for column in zip(*pairs, strict=True))
        np.savez_compressed(arguments.output / f"{split}.npz", images=images, labels=labels)
        print(split, images.shape, np.bincount(labels))


if __name__ == "__main__":
    main()
