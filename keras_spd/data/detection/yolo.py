"""Reads YOLO's format: a label file per image, and a `data.yaml` with class names."""

import pathlib
from typing import Literal

from keras_spd.data.detection.boxed_image import with_max_value
from keras_spd.data.detection.clean import boxed_image
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.data.detection.yolo_labels import (
    NoLabelsError,
    explain_missing,
    find_labels,
    is_background,
)
from keras_spd.data.detection.yolo_lines import read_labels
from keras_spd.data.detection.yolo_yaml import (
    class_names,
    files_of_split,
    keypoint_values,
    read_yaml,
)
from keras_spd.data.files import read_text
from keras_spd.data.problems import Problems, plural
from keras_spd.images.read import SUFFIXES, ImageError, find_images, find_visible, image_sizes
from keras_spd.typing import Path


def read_yolo(
    source: Path,
    split: str | None = None,
    images: Path | None = None,
    *,
    on_problem: str = "error",
    max_value: float | Literal["auto"] | None = None,
) -> DetectionData:
    """Reads a dataset in YOLO's format.

    A line of a label file is `class x y width height`: the class index from 0, then the centre and
    size of the box as fractions of the image size. A polygon, `class x1 y1 x2 y2 x3 y3 ...`,
    becomes its bounding box; keypoints (`kpt_shape` in `data.yaml`) are skipped. The label file of
    `.../images/train/a.jpg` is `.../labels/train/a.txt`, or `a.txt` beside the image. An image
    without a label file has no boxes.

    Args:
        source: Path of a `data.yaml` with `names` and the folders or image lists of splits, or of
            a folder of images or labels. The class names of a folder come from a `data.yaml` or
            `classes.txt` in it or above it; without one, classes are named by their index.
        split: Which split of a `data.yaml`: `"train"`, `"val"`, `"test"`. Defaults to `"train"`.
        images: Folder of the images, if `source` is a folder of labels only: the label file of
            `images/train/a.jpg` is then `source/train/a.txt`, or `labels/train/a.txt` if that is in
            `source`. Images whose label file would be in a folder that does not exist, such as
            those of another split, are left out.
        on_problem: `"error"`, or `"skip"` to skip what cannot be used.
        max_value: As in `load_detection`.

    Returns:
        `DetectionData`. Image ids are numbers from 1, in the order of the file names.

    Raises:
        ValueError: If the source is not in YOLO's format, none of its images has a label file, or
            it has problems and `on_problem` is `"error"`.
    """
    path = pathlib.Path(source)
    problems = Problems(path, on_problem)
    if path.is_dir():
        if images is not None and not pathlib.Path(images).is_dir():
            raise ValueError(f"There is no folder of images {images}.")
        files = find_images(images or path)
        if not files and images is None and path.name == "labels":
            files = find_images(path.parent / "images")
        names, keypoints = _describe_folder(path)
    else:
        content = read_yaml(path)
        names, keypoints = class_names(content, path), keypoint_values(content, path)
        files = files_of_split(content, split or "train", path, problems)
    if not files:
        problems.report()
        advice = "Pass their folder: `images=...` (`--images ...`)."
        if not path.is_dir():
            advice = f"Correct `path` and `{split or 'train'}` in it."
        raise ValueError(f"There are no images in {images or path}. {advice}")

    folders = (path if path.is_dir() else None, pathlib.Path(images) if images else None)
    label_files = find_labels(files, *folders)
    if not label_files:
        raise NoLabelsError(explain_missing(files, path, *folders))
    if images is not None:
        files = _drop_unlabelled(files, label_files, path, pathlib.Path(images), problems)
    labelled = []
    for number, file in enumerate(files, start=1):
        try:
            size, _ = image_sizes(file)
        except ImageError as error:
            problems.lines.append(str(error))
            continue
        count = None if names is None else len(names)
        lines = read_labels(label_files.get(file), size, count, keypoints, problems)
        labelled.append((number, file, size, *lines))
    if names is None:
        highest = max((max(classes, default=-1) for *_, classes, _ in labelled), default=-1)
        names = tuple(str(number) for number in range(highest + 1))
    found = [
        boxed_image(
            problems,
            image_id=number,
            name=str(file),
            source=file,
            size_hw=size,
            boxes=boxes,
            classes=classes,
            locations=locations,
        )
        for number, file, size, boxes, classes, locations in labelled
    ]
    found = problems.drop_broken(with_max_value(found, max_value))
    ids = tuple(range(len(names)))
    return DetectionData(tuple(found), names, ids, **problems.report())


def _drop_unlabelled(
    files: list[pathlib.Path],
    label_files: dict[pathlib.Path, pathlib.Path],
    folder: pathlib.Path,
    images_folder: pathlib.Path,
    problems: Problems,
) -> list[pathlib.Path]:
    """Returns the images that a folder of labels is about, with a remark on the others."""
    unlabelled = [file for file in files if file not in label_files]
    background = {file for file in unlabelled if is_background(file, folder, images_folder)}
    others = set(unlabelled) - background
    for found, what in (
        (background, "without a label file count as images without objects"),
        (others, "are left out, because there are no labels for their subfolder"),
    ):
        if found:
            problems.remarks.append(
                f"{len(found)} of {plural(len(files), 'image')} in {images_folder} {what}, such as "
                f"{min(found).name}"
            )
    return [file for file in files if file not in others]


def _describe_folder(folder: pathlib.Path) -> tuple[tuple[str, ...] | None, int]:
    """Returns class names, or `None`, and the number of keypoint values of a folder of data."""
    for root in (folder, folder.parent, folder.parent.parent):
        for file in (root / "data.yaml", root / "data.yml"):
            if file.is_file():
                content = read_yaml(file)
                return class_names(content, file), keypoint_values(content, file)
        if (root / "classes.txt").is_file():
            try:
                lines = read_text(root / "classes.txt").splitlines()
            except (OSError, ValueError) as error:
                raise ValueError(f"Cannot read {root / 'classes.txt'}: {error}") from error
            return tuple(line.strip() for line in lines if line.strip()), 0
    return None, 0


def is_yolo_folder(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds images or YOLO's label files."""
    return any(file.suffix.lower() in (".txt", *SUFFIXES) for file in find_visible(folder))
