"""Finds objects in an image: the shipped detector, on a slide composed of shipped blood cells.

    python examples/detect.py

Writes slide.png, and found.png with the boxes. The cells are from BCCD's validation and test
images, so the detector was not trained on them. The background of real slides is less plain.

It printed:

    on the slide: {'RBC': 14, 'WBC': 2, 'Platelets': 4}
    found 22 objects: {'RBC': 14, 'WBC': 2, 'Platelets': 6}
      RBC 0.89 at [133, 362, 213, 444]
      RBC 0.88 at [24, 27, 96, 97]
      RBC 0.88 at [471, 17, 555, 95]
"""

import argparse
import pathlib

import keras_spd

import numpy as np
from PIL import Image

CELL = 96  # pixels


def lay_out(size=(480, 640), seed=0):
    """Returns a slide with cells in rows, and how many of each class lie on it."""
    cells = keras_spd.data.load_blood_cells("test")
    images, labels = cells.batches(cells.num_images)[0]
    border = np.median(images[:, 0].reshape(-1, 3), axis=0)
    slide = Image.new("RGB", size[::-1], tuple(border.astype(int).tolist()))
    random = np.random.default_rng(seed)
    counts = np.zeros(3, int)
    for top in range(10, size[0] - CELL, CELL * 6 // 5):
        for left in range(10, size[1] - CELL, CELL * 6 // 5):
            label = random.choice(3, p=[0.7, 0.2, 0.1])
            side = CELL // 2 if cells.class_names[label] == "Platelets" else CELL
            cell = Image.fromarray(
                images[random.choice(np.flatnonzero(labels == label))].astype("uint8")
            )
            slide.paste(cell.resize((side, side), Image.Resampling.BICUBIC), (left, top))
            counts[label] += 1
    return slide, dict(zip(cells.class_names, counts.tolist(), strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="detect", type=pathlib.Path, help="folder for pictures")
    parser.add_argument("--smoke", action="store_true", help="for tests; it is short as it is")
    folder = parser.parse_args().output

    slide, laid_out = lay_out()
    folder.mkdir(parents=True, exist_ok=True)
    slide.save(folder / "slide.png")
    print("on the slide:", laid_out)

    [found] = keras_spd.Predictor("bccd")([slide])
    counts = np.bincount(found.classes, minlength=3).tolist()
    print(f"found {found}:", dict(zip(found.class_names, counts, strict=True)))
    for entry in found.to_json()[:3]:
        print(f"  {entry['name']} {entry['confidence']:.2f} at {[round(x) for x in entry['box']]}")
    keras_spd.images.draw_detections(slide, found).save(folder / "found.png")


if __name__ == "__main__":
    main()
