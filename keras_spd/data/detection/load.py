"""Loads detection data in any format."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_spd.data.detection.coco import read_coco
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.data.detection.tfds import read_tfds_detection
from keras_spd.data.detection.voc import read_voc
from keras_spd.data.detection.yolo import is_yolo_folder, read_yolo
from keras_spd.data.open_tfds import check_source
from keras_spd.images.depth import check_data_max_value
from keras_spd.typing import Path


def load_detection(
    source: Path,
    *,
    name: str | None = None,
    images: Path | None = None,
    data_dir: Path | None = None,
    class_names: Sequence[str] | None = None,
    on_problem: str = "error",
    max_value: float | Literal["auto"] | None = None,
) -> DetectionData:
    """Reads a detection dataset; the source determines the format.

    | `source` | format |
    | --- | --- |
    | `annotations.json` | COCO |
    | `data.yaml`, `data.yaml:val` | YOLO, the split `train` or another |
    | folder of images and `.txt` files, or of either | YOLO |
    | folder of `.xml` files, or with `Annotations`; `VOC2012:train` | VOC, all or a split |
    | `train`, with `name="voc/2012"` | TFDS, a split |

    Args:
        source: Path, or a split of a TFDS dataset.
        name: TFDS dataset, such as `"voc/2012"` or `"coco/2017"`.
        images: Folder of the images, if it cannot be found from the annotations.
        data_dir: Folder with prepared TFDS datasets; defaults to that of TFDS.
        class_names: The classes, in order; pass those of the training data for test data. Classes
            are matched by name. Defaults to those of the dataset.
        on_problem: `"error"`, or `"skip"` to skip broken images and annotations. Either way each
            is reported with its file name.
        max_value: The value that maps to 255 in images with more than 8 bits, as in
            `keras_spd.images.to_rgb`, e.g. 4095 for a 12-bit camera; `"auto"` to find it with
            `keras_spd.images.find_max_value`. Read test data with `train.max_value`.
            `keras_spd.training.train` does this and stores the value in the model. With `fit`,
            store it yourself: `model.info = dataclasses.replace(model.info,
            max_value=train.max_value)`.

    Returns:
        `DetectionData`.

    Raises:
        ValueError: If the dataset does not exist, it has problems and `on_problem` is
            `"error"`, or it has classes that are not in `class_names`.

    Example:

    >>> train = keras_spd.data.load_detection("boards/train.json", images="boards/images")
    >>> model.fit(train.batches(16, (320, 320), shuffle=True), epochs=40)
    """
    check_source(name, data_dir, images)
    options: dict[str, Any] = {
        "on_problem": on_problem,
        "max_value": check_data_max_value(max_value),
    }
    if name is not None:
        data_dir = None if data_dir is None else os.fspath(data_dir)
        data = read_tfds_detection(name, str(source), data_dir=data_dir, **options)
        return _with_classes(data, class_names)
    path, split = _split(str(source))
    if path.suffix == ".json":
        _refuse_split(path, split)
        data = read_coco(path, images, **options)
    elif path.suffix in (".yaml", ".yml"):
        if images is not None:
            raise ValueError(
                f"{path} defines where its images are, in `path` and its splits. Received: "
                f"images={os.fspath(images)!r}. Omit `images` (`--images`), or correct the file."
            )
        data = read_yolo(path, split, **options)
    elif path.is_dir() and ((path / "Annotations").is_dir() or any(path.glob("[!.]*.xml"))):
        data = read_voc(path, split, images, class_names=class_names, **options)
    elif path.is_dir() and is_yolo_folder(path):
        _refuse_split(path, split)
        data = read_yolo(path, images=images, **options)
    else:
        problem = "it has another format" if path.exists() else "it does not exist"
        raise ValueError(
            f"Cannot read detection data from {str(source)!r}: {problem}. It must be COCO's "
            "`.json`, YOLO's `data.yaml` or folder of images and `.txt` files, a folder of VOC's "
            "`.xml` files, or, with `name=` (`--dataset`), a split of a TFDS dataset."
        )
    return _with_classes(data, class_names)


def _split(source: str) -> tuple[pathlib.Path, str | None]:
    """Splits `path:split`; a path that exists is not split."""
    path, colon, split = source.rpartition(":")
    if not colon or pathlib.Path(source).exists():
        return pathlib.Path(source), None
    return pathlib.Path(path), split


def _refuse_split(path: pathlib.Path, split: str | None) -> None:
    """Raises a `ValueError` if a split of a source without splits is named."""
    if split is not None:
        raise ValueError(
            f"Only a `data.yaml` or a VOC folder has splits. Received: '{path}:{split}'. Pass the "
            "`.json` file or the folder of the split itself."
        )


def _with_classes(data: DetectionData, class_names: Sequence[str] | None) -> DetectionData:
    """Returns the data with its classes in another order, matched by name."""
    if class_names is None or data.class_names == tuple(class_names):
        return data
    class_names = tuple(class_names)
    used = {data.class_names[label] for image in data.images for label in image.classes}
    if unknown := sorted(used - set(class_names)):
        raise ValueError(
            f"The data has the classes {', '.join(unknown)}, which are not among "
            f"{', '.join(class_names)}."
        )
    numbers = np.array(
        [class_names.index(n) if n in class_names else -1 for n in data.class_names], "int32"
    )
    images = tuple(
        dataclasses.replace(image, classes=numbers[image.classes]) for image in data.images
    )
    known = dict(zip(data.class_names, data.category_ids, strict=True))
    if not set(class_names) <= set(known):
        # The annotations lack a category, so scores use annotations built from the boxes.
        ids = tuple(range(len(class_names)))
        return dataclasses.replace(
            data, images=images, class_names=class_names, category_ids=ids, coco=None
        )
    ids = tuple(known[class_name] for class_name in class_names)
    return dataclasses.replace(data, images=images, class_names=class_names, category_ids=ids)
