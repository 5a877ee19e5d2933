"""YOLO's `data.yaml`: the names of the classes, and the images of each split."""

import os
import pathlib
from collections import Counter
from typing import Any

from keras_spd.data.files import read_text
from keras_spd.data.problems import Problems, plural, shorten
from keras_spd.images.read import find_images

_EMPTY = ("", "~", "null")


def read_yaml(path: pathlib.Path) -> dict[str, Any]:
    """Returns the mapping in a `data.yaml`, every value as it is written.

    YAML's own types would make a class named `no` into `False`, and its merge keys let a short
    file grow without bound, so numbers and other words stay strings.
    """
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"Reading {path} needs `pip install pyyaml`.") from error
    try:
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"Cannot read {path}: {error}") from error
    except RecursionError:
        raise ValueError(f"Cannot read {path}: it is nested too deeply.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not YOLO's `data.yaml`: it has no `names` and no splits.")
    return content


def class_names(content: dict[str, Any], path: pathlib.Path) -> tuple[str, ...]:
    """Returns the class names: a list, or a mapping from numbers."""
    names = content.get("names")
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if set(names) != set(numbers):
            missing = [number for number in numbers if number not in names]
            count = plural(len(names), "class")
            raise ValueError(
                f"{path}: `names` must number its {count} from 0 to {len(names) - 1}, "
                f"without gaps. Missing: {', '.join(missing[:5])}. Received: {shorten(names)}."
            )
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"{path} must name the classes: `names: [cat, dog]`. Received: {shorten(names)}."
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"{path}: `names` must be unique. Repeated: {', '.join(map(shorten, twice))}."
        )
    return tuple(names)


def keypoint_values(content: dict[str, Any], path: pathlib.Path) -> int:
    """Returns how many numbers of keypoints, as for pose estimation, follow each box."""
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    try:
        points, values = map(int, shape)
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: `kpt_shape` must be [keypoints, 2 or 3]. Received: {shorten(shape)}."
        ) from None
    return points * values


def files_of_split(
    content: dict[str, Any], split: str, path: pathlib.Path, problems: Problems
) -> list[pathlib.Path]:
    """Returns the sorted paths of a split's images: of folders, and of lists of paths."""
    key = "val" if split == "validation" and "val" in content else split
    entries = content.get(key)
    if not entries or entries in _EMPTY:
        splits = [
            s for s in ("train", "val", "test") if content.get(s) and content[s] not in _EMPTY
        ]
        has = f"It has: {', '.join(splits)}." if splits else f"It names no images: add `{key}:`."
        raise ValueError(f"{path} has no split {split!r}. {has}")
    entries = [entries] if isinstance(entries, str) else entries
    base = content.get("path", "")
    if not isinstance(base, str) or not isinstance(entries, list):
        raise ValueError(
            f"{path}: `path` and {key!r} must be folders, or lists of images. Received: "
            f"path={shorten(base)}, {key}={shorten(entries)}."
        )
    root = path.parent / ("" if base in _EMPTY else base)
    files = []
    for entry in entries:
        if not isinstance(entry, str):
            problems.add(path, f"the split {split!r} has {shorten(entry)} instead of a folder")
            continue
        # Roboflow's exports say `../train/images` for a folder that is at `train/images`.
        candidates = [root / entry, path.parent / entry, path.parent / entry.removeprefix("../")]
        found = next((found for found in candidates if os.path.exists(found)), None)
        if found is None:
            problems.add(
                path, f"the split {split!r} names {entry}, which is not at {candidates[0]}"
            )
        elif found.is_dir():
            files += find_images(found)
        else:
            files += _listed(found, problems)
    return sorted(set(files))


def _listed(listing: pathlib.Path, problems: Problems) -> list[pathlib.Path]:
    try:
        lines = read_text(listing).split("\n")
    except (OSError, ValueError) as error:
        problems.add(listing, f"cannot be read as a list of images ({error})")
        return []
    return [listing.parent / line.strip() for line in lines if line.strip()]
