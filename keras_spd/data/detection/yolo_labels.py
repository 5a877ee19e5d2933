"""Finds the label file of each image in YOLO's folder layout."""

import collections
import difflib
import os
import pathlib
from collections.abc import Sequence

from keras_spd.data.problems import plural
from keras_spd.images.read import find_visible
from keras_spd.typing import Path

_SPLITS = ("images", "train", "val", "valid", "validation", "test")


class NoLabelsError(ValueError):
    """None of the images has a label file."""


def find_labels(
    images: Sequence[pathlib.Path],
    folder: pathlib.Path | None = None,
    images_folder: pathlib.Path | None = None,
) -> dict[pathlib.Path, pathlib.Path]:
    """Finds the label file of each image.

    The path of the image determines that of its label file: that of `.../images/train/a.jpg` is
    `.../labels/train/a.txt`, or `a.txt` beside the image. With `images_folder`, that of
    `images_folder/train/a.jpg` is `folder/train/a.txt`, and files outside `folder` are ignored.
    If no label file is found by path, and the dataset is not in `images/` and `labels/`, files are
    matched by name, provided that all names are unique.

    Args:
        images: List of paths.
        folder: Folder of the dataset, or `None`.
        images_folder: Folder of the images, if `folder` holds labels only.

    Returns:
        Dictionary from image path to label path, without the images that have none.
    """
    found = {}
    for image in images:
        candidates = _candidates(image, folder, images_folder)
        file = next((file for file in candidates if os.path.isfile(file)), None)
        if file is not None:
            found[image] = file
    if not found and folder is not None and not any(_is_under_images(i, folder) for i in images):
        return _by_name(images, folder)
    return found


def is_background(image: pathlib.Path, folder: pathlib.Path, images_folder: pathlib.Path) -> bool:
    """Returns whether an image without a label file has no objects, as opposed to no labels.

    It has none if its label file would be in a folder that does not exist: with the labels of
    `labels/train`, and all of `images/`, those of `images/val/` are not images without objects.
    """
    return any(file.parent.is_dir() for file in _candidates(image, folder, images_folder))


def _candidates(
    image: pathlib.Path, folder: pathlib.Path | None, images_folder: pathlib.Path | None
) -> list[pathlib.Path]:
    """Returns where the label file of an image may be, as `find_labels` describes."""
    candidates = [expected_label(image), image.with_suffix(".txt")]
    if folder is None or images_folder is None:
        return candidates
    candidates.insert(0, folder / image.relative_to(images_folder).with_suffix(".txt"))
    inside = folder.absolute()
    return [file for file in candidates if file.absolute().is_relative_to(inside)]


def expected_label(image: pathlib.Path) -> pathlib.Path:
    """Returns the path at which the label file of an image is expected."""
    root, rest = _at_images(image)
    return (root / "labels" / rest if root else image).with_suffix(".txt")


def explain_missing(
    images: Sequence[pathlib.Path],
    source: Path,
    folder: pathlib.Path | None = None,
    images_folder: pathlib.Path | None = None,
) -> str:
    """Returns the error message for a dataset without any label file.

    Args:
        images: List of paths, at least one.
        source: The dataset as the user named it.
        folder, images_folder: As in `find_labels`.
    """
    image = images[0]
    if folder is not None and images_folder is not None:
        expected = [folder / image.relative_to(images_folder).with_suffix(".txt")]
    else:
        expected = list(dict.fromkeys([expected_label(image), image.with_suffix(".txt")]))
    lines = [
        f"None of the {plural(len(images), 'image')} in {source} has a label file. Looked for "
        f"{' and '.join(map(str, expected))}, and so on. YOLO's labels belong in `labels/` beside "
        "`images/`, one .txt per image, in the same subfolders: images/train/a.jpg has "
        "labels/train/a.txt."
    ]
    root, _ = _at_images(image)
    if root is not None and not (root / "labels").is_dir():
        names = [path.name for path in root.iterdir() if path.is_dir()]
        for name in difflib.get_close_matches("labels", names, n=1):
            lines.append(f"Is {root / name} misspelt?")
    if classes := _class_folders(images, folder):
        lines.append(
            f"A folder for each class ({', '.join(classes[:5])}"
            f"{', ...' if len(classes) > 5 else ''}) is data for a classifier, such as "
            "`resnet18_spd`; a detector needs boxes."
        )
    return " ".join(lines)


def _class_folders(images: Sequence[pathlib.Path], folder: pathlib.Path | None) -> list[str]:
    """Returns the names of the folders of images, if they look like classes."""
    if folder is None or not all(image.is_relative_to(folder) for image in images):
        return []
    folders = {image.relative_to(folder).parent for image in images}
    names = {subfolder.name for subfolder in folders}
    if len(names) < 2 or names & {"", *_SPLITS} or any("images" in p.parts for p in folders):
        return []
    return sorted(names)


def _at_images(image: pathlib.Path) -> tuple[pathlib.Path | None, pathlib.Path]:
    """Splits `root/images/rest` at the last `images`; the root is `None` if there is none."""
    for path in (image, image.absolute()):
        folders = path.parts[:-1]
        if "images" in folders:
            last = len(folders) - 1 - folders[::-1].index("images")
            return pathlib.Path(*folders[:last]), pathlib.Path(*path.parts[last + 1 :])
    return None, image


def _is_under_images(image: pathlib.Path, folder: pathlib.Path) -> bool:
    """Returns whether an image is in the folder's `images/`, or has `labels/` beside `images/`."""
    if image.is_relative_to(folder) and "images" in image.relative_to(folder).parts[:-1]:
        return True
    root, _ = _at_images(image)
    return root is not None and (root / "labels").is_dir()


def _by_name(
    images: Sequence[pathlib.Path], folder: pathlib.Path
) -> dict[pathlib.Path, pathlib.Path]:
    """Matches images and label files by name; nothing, if a name occurs twice among either."""
    image_names = collections.Counter(image.stem for image in images)
    files = sorted(file for file in find_visible(folder) if file.suffix == ".txt")
    files = [file for file in files if file.stem in image_names]
    file_names = collections.Counter(file.stem for file in files)
    if max([*image_names.values(), *file_names.values()], default=0) > 1:
        return {}
    by_name = {file.stem: file for file in files}
    return {image: by_name[image.stem] for image in images if image.stem in by_name}
