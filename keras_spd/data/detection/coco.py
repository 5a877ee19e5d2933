"""COCO annotations: a JSON file and a folder of images."""

import json
import pathlib

from keras_spd.data.detection.dataset import DetectionData, boxed_image
from keras_spd.data.problems import Problems
from keras_spd.images.read import ImageError, image_size


def read_coco(annotations, images=None, *, on_problem="error"):
    """Reads a data set in COCO's format.

    Args:
        annotations: Path of the JSON file.
        images: Folder of the images. Defaults to the first of the JSON file's folder, the folder
            above, and their `images` folders that has the first image.
        on_problem: `"error"`, or `"skip"` to leave out what cannot be used.

    Returns:
        `DetectionData`; its classes are the categories in the order of their ids.

    Raises:
        ValueError: If the file is not COCO's, or has problems and `on_problem` is `"error"`.
    """
    path = pathlib.Path(annotations)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Cannot read the annotations {path}: {error}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(
        not isinstance(content.get(key), list) or not all(isinstance(x, dict) for x in content[key])
        for key in keys
    ):
        raise ValueError(f"{path} is not a COCO file: it needs lists of {', '.join(keys)}.")
    problems = Problems(path, on_problem)
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        labels = {category["id"]: label for label, category in enumerate(categories)}
        names = tuple(str(category["name"]) for category in categories)
        records = {record["id"]: record for record in content["images"]}
        files = {id_: str(record["file_name"]) for id_, record in records.items()}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a COCO file: an entry lacks {error}.") from error
    folder = _image_folder(path, images, files)
    boxes = _boxes_by_image(content["annotations"], records, files, labels, problems)

    found = []
    for id_, record in records.items():
        file = folder / files[id_]
        try:
            stored = image_size(file)
        except ImageError as error:
            problems.lines.append(str(error))
            continue
        size = (record.get("height"), record.get("width"))
        if size not in (stored, stored[::-1]):
            problems.add(file, f"is {stored} pixels (height, width), its record says {size}")
            continue
        found.append(
            boxed_image(
                problems, image_id=id_, name=str(file), source=file, size_hw=size, **boxes[id_]
            )
        )
    found = problems.drop_broken(found)
    return DetectionData(tuple(found), names, tuple(labels), coco=content, **problems.settle())


def _boxes_by_image(annotations, records, files, labels, problems):
    boxes: dict = {id_: {"boxes": [], "classes": [], "crowd": [], "places": []} for id_ in records}
    for annotation in annotations:
        name = f"annotation {annotation.get('id')}"
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if image not in records:
            problems.add(name, f"belongs to image {image!r}, which is not in the file")
            continue
        name = f"{files[image]}, {name}"
        if category not in labels:
            problems.add(name, f"has the category {category!r}, which is not in the file")
            continue
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            problems.add(name, f"has the box {box!r}; it must be [x, y, width, height]")
            continue
        x, y, width, height = box
        boxes[image]["boxes"].append((x, y, x + width, y + height))
        boxes[image]["classes"].append(labels[category])
        boxes[image]["crowd"].append(bool(annotation.get("iscrowd", 0)))
        boxes[image]["places"].append(name)
    return boxes


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _image_folder(path, images, files):
    if images is not None:
        folder = pathlib.Path(images)
        if not folder.is_dir():
            raise ValueError(f"There is no folder of images {folder}.")
        return folder
    candidates = [path.parent, path.parent / "images", path.parent.parent / "images"]
    candidates += [path.parent / path.stem, path.parent.parent]
    for folder in candidates:
        if any((folder / file).is_file() for file in list(files.values())[:10]):
            return folder
    raise ValueError(
        f"The images of {path} are in none of {', '.join(map(str, candidates))}. "
        "Pass their folder: `images=...` (`--images ...`)."
    )
