"""Which text file of boxes belongs to which image, in YOLO's layout of folders."""

import collections
import difflib
import os
import pathlib

from keras_spd.data.problems import plural

_SPLITS = ("images", "train", "val", "valid", "validation", "test")


class NoLabelsError(ValueError):
    """Images none of which has a text file."""


def find_labels(images, folder=None, images_folder=None):
    """Finds the text file of each image.

    It is found by the image's own path: that of `.../images/train/a.jpg` is
    `.../labels/train/a.txt`, or `a.txt` beside the image. With `images_folder`, that of
    `images_folder/train/a.jpg` is `folder/train/a.txt`, and files outside of `folder` do not count.
    File names alone decide only where no text file has such a path, the data are not laid out in
    `images/` and `labels/`, and no name is there twice.

    Args:
        images: List of paths.
        folder: Folder that is read, or `None`.
        images_folder: Folder of the images, where it was given beside a folder of labels.

    Returns:
        Dictionary from the path of an image to that of its text file; images without are left out.
    """
    found = {}
    for image in images:
        candidates = [expected_label(image), image.with_suffix(".txt")]
        if images_folder is not None:
            candidates.insert(0, folder / image.relative_to(images_folder).with_suffix(".txt"))
            inside = folder.absolute()
            candidates = [file for file in candidates if file.absolute().is_relative_to(inside)]
        file = next((file for file in candidates if os.path.isfile(file)), None)
        if file is not None:
            found[image] = file
    if not found and folder is not None and not any(_has_place(i, folder) for i in images):
        return _by_name(images, folder)
    return found


def expected_label(image):
    """Returns where the text file of an image belongs."""
    root, rest = _at_images(image)
    return (root / "labels" / rest if root else image).with_suffix(".txt")


def explain_missing(images, source, folder=None, images_folder=None):
    """Returns what to say of images none of which has a text file.

    Args:
        images: List of paths, at least one.
        source: What was given to be read.
        folder, images_folder: As in `find_labels`.
    """
    image = images[0]
    if images_folder is not None:
        places = [folder / image.relative_to(images_folder).with_suffix(".txt")]
    else:
        places = list(dict.fromkeys([expected_label(image), image.with_suffix(".txt")]))
    lines = [
        f"None of the {plural(len(images), 'image')} in {source} has a label file. Looked for "
        f"{' and '.join(map(str, places))}, and so on. YOLO's labels lie in `labels/` beside "
        "`images/`, one .txt for an image, in the same sub-folders: images/train/a.jpg has "
        "labels/train/a.txt."
    ]
    root, _ = _at_images(image)
    if root is not None and not (root / "labels").is_dir():
        names = [path.name for path in root.iterdir() if path.is_dir()]
        for name in difflib.get_close_matches("labels", names, n=1):
            lines.append(f"Is {root / name} misspelt?")
    if classes := _folders_of_classes(images, folder):
        lines.append(
            f"A folder for each class ({', '.join(classes[:5])}"
            f"{', ...' if len(classes) > 5 else ''}) is data for a classifier, such as "
            "`resnet18_spd`; a detector needs boxes."
        )
    return " ".join(lines)


def _folders_of_classes(images, folder):
    """Returns the names of the folders of images, if they look like classes."""
    if folder is None or not all(image.is_relative_to(folder) for image in images):
        return []
    places = {image.relative_to(folder).parent for image in images}
    names = {place.name for place in places}
    if len(names) < 2 or names & {"", *_SPLITS} or any("images" in p.parts for p in places):
        return []
    return sorted(names)


def _at_images(image):
    """Splits `root/images/rest` at the last `images`; the root is `None` if there is none."""
    for path in (image, image.absolute()):
        folders = path.parts[:-1]
        if "images" in folders:
            last = len(folders) - 1 - folders[::-1].index("images")
            return pathlib.Path(*folders[:last]), pathlib.Path(*path.parts[last + 1 :])
    return None, image


def _has_place(image, folder):
    """Whether an image is in the folder's `images/`, or has a `labels/` beside its `images/`."""
    if image.is_relative_to(folder) and "images" in image.relative_to(folder).parts[:-1]:
        return True
    root, _ = _at_images(image)
    return root is not None and (root / "labels").is_dir()


def _by_name(images, folder):
    wanted = collections.Counter(image.stem for image in images)
    files = [file for file in sorted(folder.rglob("*.txt")) if file.stem in wanted]
    given = collections.Counter(file.stem for file in files)
    if max([*wanted.values(), *given.values()], default=0) > 1:
        return {}
    by_name = {file.stem: file for file in files}
    return {image: by_name[image.stem] for image in images if image.stem in by_name}
