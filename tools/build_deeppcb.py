"""Turns a clone of DeepPCB into the folder that the weights `deeppcb` were trained on.

    git clone https://github.com/tangsanli5201/DeepPCB
    python tools/build_deeppcb.py DeepPCB deeppcb

The folder gets the tested boards in `images/` and COCO annotations
`annotations/instances_{trainval,test}.json` of DeepPCB's own splits. Boxes are copied unchanged.
The templates without defects are left out.
"""

import argparse
import json
import pathlib
import shutil

CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # DeepPCB's types 1 to 6
SIDE = 640


def annotate(data, split):
    """Returns the COCO content of a split, and `{file name: path of the image}`."""
    images, annotations, sources = [], [], {}
    for line in sorted((data / f"{split}.txt").read_text().splitlines()):
        image, boxes = (data / name for name in line.split())
        sources[image.name] = image.with_name(f"{image.stem}_test.jpg")
        images.append(
            {"id": len(images) + 1, "file_name": image.name, "width": SIDE, "height": SIDE}
        )
        for row in boxes.read_text().splitlines():
            left, top, right, bottom, kind = map(int, row.split())
            width, height = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": kind,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": kind, "name": name} for kind, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, sources


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clone", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    arguments = parser.parse_args()
    for folder in ("images", "annotations"):
        (arguments.output / folder).mkdir(parents=True, exist_ok=True)
    for split in ("trainval", "test"):
        content, sources = annotate(arguments.clone / "PCBData", split)
        for name, source in sources.items():
            shutil.copyfile(source, arguments.output / "images" / name)
        file = arguments.output / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(content))
        print(f"{split}: {len(content['images'])} images, {len(content['annotations'])} boxes")


if __name__ == "__main__":
    main()
