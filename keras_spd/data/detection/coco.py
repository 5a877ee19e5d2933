"""Reads COCO annotations: a JSON file and a folder of images."""

import json
import os
import pathlib
from typing import Any, Literal

from keras_spd.data.detection.boxed_image import with_max_value
from keras_spd.data.detection.clean import boxed_image
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.data.files import read_text
from keras_spd.data.problems import Problems, shorten
from keras_spd.images.read import ImageError, image_sizes
from keras_spd.typing import Path

_IDS = "it must be an integer or a string"
_LARGEST = 1e12  # of coordinates and areas, in pixels


def read_coco(
    annotations: Path,
    images: Path | None = None,
    *,
    on_problem: str = "error",
    max_value: float | Literal["auto"] | None = None,
) -> DetectionData:
    """Reads a dataset in COCO's format.

    Args:
        annotations: Path of the JSON file.
        images: Folder of the images. By default, it is searched for: the JSON file's folder, its
            parent, an `images` folder in either, and for `train.json` the folder `train` beside it.
        on_problem: `"error"`, or `"skip"` to skip what cannot be used.
        max_value: As in `load_detection`.

    Returns:
        `DetectionData`. Its classes are the categories in the order of their ids.

    Raises:
        ValueError: If the file is not a COCO file, the images are not found, or there are problems
            and `on_problem` is `"error"`.

    Example:

    >>> data = keras_spd.data.read_coco("boards/train.json", "boards/images")
    >>> data.num_images, data.class_names
    """
    path = pathlib.Path(annotations)
    problems = Problems(path, on_problem)
    content = _read_json(path)
    categories = _by_id(content["categories"], "category", "name", problems)
    categories = _without_unused_duplicates(categories, content["annotations"])
    records = _by_id(content["images"], "image", "file_name", problems)
    if not records:
        problems.report()
        raise ValueError(f"{path} has no image that can be used.")
    ids = sorted(categories)
    names = tuple(str(categories[id_]["name"]) for id_ in ids)
    files = {id_: record["file_name"] for id_, record in records.items()}
    folder = _image_folder(path, images, files)
    labels = {id_: label for label, id_ in enumerate(ids)}
    boxes = _boxes_by_image(content["annotations"], files, labels, problems)

    found = []
    for id_, record in records.items():
        file = folder / files[id_]
        size = _checked_size(file, record, problems)
        if size is not None:
            found.append(
                boxed_image(
                    problems,
                    image_id=id_,
                    name=str(file),
                    source=file,
                    size_hw=size,
                    **boxes[id_],
                )
            )
    found = problems.drop_broken(with_max_value(found, max_value))
    used = {"images": list(records.values()), "categories": list(categories.values())}
    coco = content | used | {"annotations": []}
    return DetectionData(tuple(found), names, tuple(ids), coco=coco, **problems.report())


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"Cannot read the annotations {path}: {error}") from error
    except RecursionError:
        raise ValueError(
            f"Cannot read the annotations {path}: they are nested too deeply."
        ) from None
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(not isinstance(content.get(k), list) for k in keys):
        raise ValueError(f"{path} is not a COCO file: it needs lists of {', '.join(keys)}.")
    return content


def _by_id(
    entries: list[Any], kind: str, key: str, problems: Problems
) -> dict[Any, dict[str, Any]]:
    """Returns the entries by id.

    If entries with the same id have different names (`key`), all of them are dropped, because it
    is unclear which of them an annotation refers to.
    """
    found: dict = {}
    ambiguous = set()
    for number, entry in enumerate(entries, start=1):
        place = f"{kind} number {number}"
        if not isinstance(entry, dict):
            problems.add(place, f"is {shorten(entry)}; it must be an object with `id` and `{key}`")
            continue
        id_, name = _standardize_id(entry.get("id")), entry.get(key)
        if id_ is None:
            problems.add(place, f"has the id {shorten(entry.get('id'))}; {_IDS}")
        elif not isinstance(name, str) or not name:
            problems.add(place, f"has the {key} {shorten(name)}; it must be a string")
        elif found and type(id_) is not type(first := next(iter(found))):
            problems.add(
                place,
                f"has the id {shorten(id_)}, the first has {shorten(first)}; ids must be all "
                "integers or all strings",
            )
        elif id_ not in found:
            found[id_] = entry
        elif found[id_][key] == name:
            problems.add(place, f"repeats the id {id_!r} of {shorten(name)}")
        else:
            problems.add(
                place,
                f"{shorten(name)} has the id {id_!r}, which {shorten(found[id_][key])} also has; "
                "each needs its own id",
            )
            ambiguous.add(id_)
    return {id_: entry for id_, entry in found.items() if id_ not in ambiguous}


def _without_unused_duplicates(
    categories: dict[Any, dict[str, Any]], annotations: list[Any]
) -> dict[Any, dict[str, Any]]:
    """Drops categories without annotations that have the name of another category.

    Roboflow writes the project as a category, which may have the name of a class.
    """
    used = {
        _standardize_id(annotation.get("category_id"))
        for annotation in annotations
        if isinstance(annotation, dict)
    }
    kept: dict[str, Any] = {}  # by name: the first that is used, or else the first
    for id_, category in categories.items():
        name = category["name"]
        if name not in kept or (id_ in used and kept[name] not in used):
            kept[name] = id_
    return {
        id_: category
        for id_, category in categories.items()
        if id_ in used or kept[category["name"]] == id_
    }


def _standardize_id(value: Any) -> int | str | None:
    """Returns an id as an integer or a string; `None` if it cannot be one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if abs(value) < 2**63 and value == int(value) else None


def _checked_size(
    file: pathlib.Path, record: dict[str, Any], problems: Problems
) -> tuple[int, int] | None:
    """Returns the height and width in an image's record, or adds a problem and returns `None`."""
    try:
        shown, stored = image_sizes(file)
    except ImageError as error:
        problems.lines.append(str(error))
        return None
    size = (record.get("height"), record.get("width"))
    for known in (shown, stored):
        if size == known:
            return known
    swapped = "; they are swapped" if size == shown[::-1] else ""
    problems.add(
        file, f"is {shown} pixels (height, width), but its record has {shorten(size)}{swapped}"
    )
    return None


def _boxes_by_image(
    annotations: list[Any], files: dict[Any, str], labels: dict[Any, int], problems: Problems
) -> dict[Any, dict[str, list[Any]]]:
    keys = ("boxes", "classes", "crowd", "locations", "records")
    # The keys are arguments of `boxed_image`.
    boxes: dict = {id_: {key: [] for key in keys} for id_ in files}
    for number, annotation in enumerate(annotations, start=1):
        if not isinstance(annotation, dict):
            problems.add(f"annotation number {number}", f"is {shorten(annotation)}, not an object")
            continue
        name = f"annotation {shorten(annotation.get('id'))}"
        image = _standardize_id(annotation.get("image_id"))
        if image not in files:
            given = shorten(annotation.get("image_id"))
            problems.add(name, f"belongs to image {given}, which is not in the file")
            continue
        name = f"{files[image]}, {name}"
        category = _standardize_id(annotation.get("category_id"))
        crowd = _crowd(annotation)
        box = annotation.get("bbox")
        if category not in labels:
            given = shorten(annotation.get("category_id"))
            problems.add(name, f"has the category {given}, which is not in the file")
        elif not isinstance(box, list) or len(box) != 4 or not all(map(_is_coordinate, box)):
            problems.add(name, f"has the box {shorten(box)}; it must be [x, y, width, height]")
        elif crowd is None:
            given = shorten(annotation["iscrowd"])
            problems.add(name, f"has iscrowd {given}; it must be 0 or 1")
        else:
            x, y, width, height = box
            added = ((x, y, x + width, y + height), labels[category], crowd, name)
            for key, value in zip(keys, (*added, _to_record(annotation, crowd)), strict=True):
                boxes[image][key].append(value)
    return boxes


def _crowd(annotation: dict[str, Any]) -> bool | None:
    """Returns whether an annotation is a crowd region; `None` if `iscrowd` is not valid."""
    value = annotation.get("iscrowd")
    if value is None:
        return False
    if isinstance(value, str):
        value = {"0": 0, "false": 0, "1": 1, "true": 1}.get(value.lower())
    return bool(value) if isinstance(value, (int, float)) and value in (0, 1) else None


def _to_record(annotation: dict[str, Any], crowd: bool) -> dict[str, Any]:
    """Returns an annotation for scoring: `iscrowd` is 0 or 1, an invalid `area` is dropped."""
    record = annotation | {"iscrowd": int(crowd)} if "iscrowd" in annotation else annotation
    if "area" in record and not (_is_coordinate(record["area"]) and record["area"] >= 0):
        return {key: value for key, value in record.items() if key != "area"}
    return record


def _is_coordinate(value: Any) -> bool:
    """Returns whether a value is a plausible number of pixels, or NaN, which is reported later."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return value != value or abs(value) <= _LARGEST


def _image_folder(path: pathlib.Path, images: Path | None, files: dict[Any, str]) -> pathlib.Path:
    if images is not None:
        folder = pathlib.Path(images)
        if not folder.is_dir():
            raise ValueError(f"There is no folder of images {folder}.")
        return folder
    candidates = [path.parent, path.parent / "images", path.parent.parent / "images"]
    candidates += [path.parent / path.stem, path.parent.parent]
    names = list(files.values())
    for some in (names[:10], names[10:]):  # most datasets are complete
        for folder in candidates:
            if any(os.path.isfile(folder / file) for file in some):
                return folder
    raise ValueError(
        f"The images of {path} are in none of {', '.join(map(str, candidates))}. "
        "Pass their folder: `images=...` (`--images ...`)."
    )
