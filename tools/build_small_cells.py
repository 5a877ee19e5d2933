"""Writes the small images of blood cells in the package, from BCCD.

    python tools/build_small_cells.py BCCD_FOLDER keras_spd/data/detection/small_cells

BCCD_FOLDER holds `images/` and COCO annotations `annotations/instances_{train,test}.json` of
https://github.com/Shenggan/BCCD_Dataset (MIT). Images are reduced from 640x480 to 160x120 pixels:
a red cell then has about 25 and a platelet 10. Training images come from the training images of
BCCD, test images from its test images, at regular intervals.
"""

import argparse
import json
import pathlib

from PIL import Image

COUNTS = {"train": 64, "test": 36}
REDUCTION = 4


def build(bccd, output, split):
    """Writes the images and annotations of one split."""
    content = json.loads((bccd / "annotations" / f"instances_{split}.json").read_text())
    count = COUNTS[split]
    step = len(content["images"]) / count
    kept = [content["images"][int(place * step)] for place in range(count)]
    for entry in kept:
        with Image.open(bccd / "images" / entry["file_name"]) as image:
            small = image.convert("RGB").reduce(REDUCTION)
        entry["width"], entry["height"] = small.size
        small.save(output / "images" / entry["file_name"], quality=90)
    ids = {entry["id"] for entry in kept}
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    for entry in annotations:
        entry["bbox"] = [side / REDUCTION for side in entry["bbox"]]
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
        entry.pop("segmentation", None)
    record = {"images": kept, "annotations": annotations, "categories": content["categories"]}
    (output / f"{split}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")
    print(split, len(kept), "images,", len(annotations), "boxes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bccd", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    (arguments.output / "images").mkdir(parents=True, exist_ok=True)
    for split in COUNTS:
        build(arguments.bccd, arguments.output, split)


if __name__ == "__main__":
    main()
