"""Writes detections as annotations, to be corrected in an annotation tool or trained on."""

import json
import logging
import os
import pathlib
import urllib.parse
import xml.sax.saxutils
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from keras_spd.data.detection.yolo_labels import expected_label
from keras_spd.files import whole_file
from keras_spd.predict.results import Detections
from keras_spd.typing import Path

_log = logging.getLogger(__name__)
FORMATS = ("coco", "yolo", "label-studio")


def write_annotations(detections: Iterable[Detections], folder: Path, format: str) -> None:
    """Writes detections in image files as annotations.

    - `"coco"`: `annotations.json`, with a `score` for each box. CVAT imports it as "COCO 1.0".
    - `"yolo"`: a file in `labels/` for each image, and `data.yaml`. To train on them, put the
      images into `images/` beside `labels/`. The label file of an image in another folder called
      `images` is where YOLO looks for it: that of `images/train/images/a.png` is
      `images/train/labels/a.txt`. Label files of earlier runs are kept, with a warning.
    - `"label-studio"`: `label_studio.json`, tasks with predictions, and `label_studio.xml`, the
      labelling interface. Label Studio serves images in a "Local files" storage: add the innermost
      folder that holds all images, and start it with the folder above that one as
      `LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT`.

    Image paths in the other files are relative to the innermost folder that holds all images.

    Args:
        detections: Iterable of `Detections`, such as `Predictor.stream` of images. At least one,
            each with a `path`.
        folder: Path of the folder to write to; it is created.
        format: One of the names above.

    Raises:
        ValueError: If the format is unknown, there are no detections, or some are not of image
            files.

    Example:

    >>> predictor = keras_spd.Predictor("runs/boards/model.keras")
    >>> keras_spd.predict.write_annotations(predictor.stream("new/"), "annotations", "coco")
    """
    name_images([], format)
    # Without images, which would stay in memory.
    found = [(one.path, one.with_image(None, None)) for one in detections]
    paths = [path for path, _ in found if path is not None]
    if not found:
        raise ValueError("`detections` is empty; pass those of at least one image.")
    if len(paths) < len(found):
        raise ValueError(
            "Annotations are written for image files, not for images in memory. Received: "
            f"{len(found) - len(paths)} of {len(found)} results without a path. Predict files."
        )
    names = name_images(paths, format)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write = {"coco": _write_coco, "yolo": _write_yolo, "label-studio": _write_label_studio}[format]
    write(folder, names, [one for _, one in found])


def name_images(paths: Sequence[str], format: str) -> list[str]:
    """Returns the names of images in annotations: paths relative to a folder that holds them all.

    Args:
        paths: Paths of image files.
        format: As in `write_annotations`.

    Raises:
        ValueError: If the format is unknown, a path occurs twice, the images are on several drives,
            or two images would have the same label file.
    """
    if format not in FORMATS:
        accepted = ", ".join(map(repr, FORMATS))
        raise ValueError(
            f"The format of annotations must be one of {accepted}. Received: {format!r}."
        )
    if len(set(paths)) < len(paths):
        raise ValueError(
            "Annotations are written for image files, each once, and not for videos. "
            f"Received several times: {max(paths, key=paths.count)}."
        )
    if not paths:
        return []
    absolute = [os.path.abspath(path) for path in paths]
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in absolute])
    except ValueError as error:
        raise ValueError(
            "Annotations are written for images on one drive, as they name them relative to a "
            f"folder. Received: {paths[0]} and images on other drives."
        ) from error
    if format == "label-studio":  # serves folders below a root, but not the root itself
        common = os.path.dirname(common)
    names = [pathlib.Path(os.path.relpath(path, common)).as_posix() for path in absolute]
    if format == "yolo":
        files = [_label_file(name) for name in names]
        if len(set(files)) < len(files):
            twice = pathlib.PurePosixPath(names[files.index(max(files, key=files.count))])
            raise ValueError(
                f"Several images are called {twice.with_suffix('')}: their label files would be "
                "the same."
            )
    return names


def _label_file(name: str) -> pathlib.Path:
    """Returns where YOLO looks for the labels of an image in `images/`."""
    return expected_label(pathlib.Path("images", name))


def _write_coco(folder: pathlib.Path, names: Sequence[str], found: Sequence[Detections]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, one) in enumerate(zip(names, found, strict=True), start=1):
        height, width = one.image_size_hw
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for box in one.to_coco(image_id):
            area = box["bbox"][2] * box["bbox"][3]
            numbered = {"id": len(annotations) + 1, **box, "area": area, "iscrowd": 0}
            annotations.append(numbered | {"segmentation": []})  # which CVAT's reader looks for
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(_class_names(found))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    _write(folder / "annotations.json", json.dumps(content, ensure_ascii=False))


def _write_yolo(folder: pathlib.Path, names: Sequence[str], found: Sequence[Detections]) -> None:
    labels = {folder / _label_file(name): one for name, one in zip(names, found, strict=True)}
    for path, one in labels.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, one.to_yolo())
    others = sorted(set(folder.joinpath("labels").rglob("*.txt")) - set(labels))
    if others:
        _log.warning(
            "%s holds label files of an earlier run: %d, such as %s. They are kept.",
            folder,
            len(others),
            others[0].relative_to(folder),
        )
    classes = dict(enumerate(_class_names(found)))
    content = {"train": "images", "names": classes}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    _write(folder / "data.yaml", text)


def _write_label_studio(
    folder: pathlib.Path, names: Sequence[str], found: Sequence[Detections]
) -> None:
    tasks = []
    for name, one in zip(names, found, strict=True):
        prediction: dict[str, Any] = {"result": [_region(one, index) for index in range(len(one))]}
        if len(one):
            prediction["score"] = float(one.confidence.mean())
        image = f"/data/local-files/?d={urllib.parse.quote(os.fsencode(name))}"
        tasks.append({"data": {"image": image}, "predictions": [prediction]})
    _write(folder / "label_studio.json", json.dumps(tasks, ensure_ascii=False))
    labels = "".join(
        f"    <Label value={xml.sax.saxutils.quoteattr(name)}/>\n" for name in _class_names(found)
    )
    view = f"""<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
{labels}  </RectangleLabels>
</View>
"""
    _write(folder / "label_studio.xml", view)


def _region(one: Detections, index: int) -> dict[str, Any]:
    """Returns a box in Label Studio's format, in percent of the image."""
    height, width = one.image_size_hw
    x1, y1, x2, y2 = one.boxes[index].tolist()
    value = {"x": 100 * x1 / width, "y": 100 * y1 / height}
    value |= {"width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height, "rotation": 0}
    return {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value | {"rectanglelabels": [one.name(int(one.classes[index]))]},
        "score": float(one.confidence[index]),
    }


def _class_names(found: Sequence[Detections]) -> tuple[str, ...]:
    if found[0].class_names:
        return found[0].class_names
    most = max((int(one.classes.max()) for one in found if len(one)), default=-1)
    return tuple(str(label) for label in range(most + 1))


def _write(path: pathlib.Path, text: str) -> None:
    with whole_file(path) as unfinished:
        # A file name that is not UTF-8 is written with escapes.
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
