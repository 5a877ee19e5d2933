"""Which text file of boxes belongs to which image, in YOLO's layout of folders."""

import collections
import pathlib


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
        file = next((file for file in candidates if file.is_file()), None)
        if file is not None:
            found[image] = file
    if not found and folder is not None and not any(_has_place(i, folder) for i in images):
        return _by_name(images, folder)
    return found


def expected_label(image):
    """Returns where the text file of an image belongs."""
    root, rest = _at_images(image)
    return (root / "labels" / rest if root else image).with_suffix(".txt")


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
