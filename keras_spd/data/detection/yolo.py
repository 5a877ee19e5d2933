"""YOLO's format: a text file of boxes for each image, and a `data.yaml` that names the classes."""

import pathlib

from keras_spd.data.detection.dataset import DetectionData, boxed_image
from keras_spd.data.detection.yolo_labels import NoLabelsError, explain_missing, find_labels
from keras_spd.data.problems import Problems
from keras_spd.images.read import SUFFIXES, ImageError, find_images, image_size


def read_yolo(source, split=None, images=None, *, on_problem="error"):
    """Reads a data set in YOLO's format.

    A line of a text file is `class x y width height`: the class counted from 0, then the box's
    centre and sides as shares of the image's. The text file of `.../images/train/a.jpg` is
    `.../labels/train/a.txt`, or `a.txt` beside the image. An image without one has no boxes.

    Args:
        source: Path of a `data.yaml` with `names` and the splits' folders or lists of images, or
            of a folder of images or labels; a folder's classes are named by its `data.yaml` or
            `classes.txt`, in it or above it, else by their numbers.
        split: Which split of a `data.yaml`: `"train"`, `"val"`, `"test"`. Defaults to `"train"`.
        images: Folder of the images, if `source` is a folder of labels only: the text file of
            `images/train/a.jpg` is then `source/train/a.txt`.
        on_problem: `"error"`, or `"skip"` to leave out what cannot be used.

    Returns:
        `DetectionData`. Image ids are numbers from 1, in the order of the file names.

    Raises:
        ValueError: If the source is not YOLO's, none of its images has a text file, or it has
            problems and `on_problem` is `"error"`.
    """
    path = pathlib.Path(source)
    problems = Problems(path, on_problem)
    if path.is_dir():
        files = find_images(images or path)
        if not files and path.name == "labels":
            files = find_images(path.parent / "images")
        names = _names_of_folder(path)
    else:
        content = _read_yaml(path)
        names = _names(content.get("names"), path)
        files = _files_of_split(content, split or "train", path, problems)
    if not files:
        raise ValueError(f"There are no images in {path}. Pass their folder: `--images ...`.")

    folders = (path if path.is_dir() else None, images and pathlib.Path(images))
    label_files = find_labels(files, *folders)
    if not label_files:
        raise NoLabelsError(explain_missing(files, path, *folders))
    labelled = []
    for number, file in enumerate(files, start=1):
        try:
            size = image_size(file)
        except ImageError as error:
            problems.lines.append(str(error))
            continue
        lines = _read_labels(label_files.get(file), size, names, problems)
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
            places=places,
        )
        for number, file, size, boxes, classes, places in labelled
    ]
    found = problems.drop_broken(found)
    ids = tuple(range(len(names)))
    return DetectionData(tuple(found), names, ids, **problems.settle())


def _read_labels(file, size_hw, names, problems):
    """Returns boxes, classes, and where they are written."""
    if file is None:
        return [], [], []
    height, width = size_hw
    boxes, classes, places = [], [], []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.add(file, f"cannot be read ({error})")
        return [], [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            label, *rest = line.split()
            label = float(label)
            values = [float(value) for value in rest]
            if label != int(label) or label < 0 or len(values) not in (4, 5):
                raise ValueError
        except ValueError:
            problems.add(file, f"line {number}: {line!r} is not `class x y width height`")
            continue
        if names is not None and label >= len(names):
            problems.add(file, f"line {number}: class {int(label)}, but there are {len(names)}")
            continue
        x, y, w, h = values[:4]  # a fifth number is a confidence
        if max(values[:4]) > 1.5:
            problems.add(
                file, f"line {number}: {line!r} must be shares of the image's sides, not pixels"
            )
            continue
        boxes.append(
            (
                (x - w / 2) * width,
                (y - h / 2) * height,
                (x + w / 2) * width,
                (y + h / 2) * height,
            )
        )
        classes.append(int(label))
        places.append(f"{file}: line {number}")
    return boxes, classes, places


def _files_of_split(content, split, path, problems):
    key = "val" if split == "validation" and "val" in content else split
    entries = content.get(key)
    if not entries:
        splits = [name for name in ("train", "val", "test") if content.get(name)]
        raise ValueError(f"{path} has no split {split!r}. It has: {', '.join(splits) or 'none'}.")
    root = path.parent / str(content.get("path") or "")
    files = []
    for entry in [entries] if isinstance(entries, str) else entries:
        # Roboflow's exports say `../train/images` of what lies in `train/images`.
        places = [root / entry, path.parent / entry, path.parent / str(entry).removeprefix("../")]
        place = next((place for place in places if place.exists()), None)
        if place is None:
            problems.add(path, f"the split {split!r} names {entry}, which is not at {places[0]}")
        elif place.is_dir():
            files += find_images(place)
        else:
            lines = place.read_text(encoding="utf-8").split("\n")
            files += [place.parent / line.strip() for line in lines if line.strip()]
    return sorted(set(files))


def _names_of_folder(folder):
    for place in (folder, folder.parent, folder.parent.parent):
        for file in (place / "data.yaml", place / "data.yml"):
            if file.is_file():
                return _names(_read_yaml(file).get("names"), file)
        if (place / "classes.txt").is_file():
            lines = (place / "classes.txt").read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    return None


def _names(names, path):
    """Class names from a list, or from a mapping of numbers."""
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise ValueError(f"{path}: `names` must number the classes from 0. Received: {names}.")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{path} must name the classes: `names: [cat, dog]`. Received: {names!r}.")
    return tuple(str(name) for name in names)


def _read_yaml(path):
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"Reading {path} needs `pip install pyyaml`.") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"Cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not YOLO's `data.yaml`: it has no `names` and no splits.")
    return content


def is_yolo_folder(folder):
    """Whether a folder holds images or YOLO's text files."""
    files = pathlib.Path(folder).rglob("*")
    return any(file.suffix.lower() in (".txt", *SUFFIXES) for file in files)
