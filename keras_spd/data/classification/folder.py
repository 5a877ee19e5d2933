"""Reads classification data from image files, one folder per class."""

import dataclasses
import logging
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_spd.data.classification.dataset import ClassificationData, in_memory
from keras_spd.images import read as images
from keras_spd.images.depth import check_data_max_value
from keras_spd.images.max_value import find_max_value
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.images.read import (
    SUFFIXES,
    ImageError,
    check_file,
    check_on_problem,
    find_images,
    find_visible,
    to_rgb,
)
from keras_spd.images.sizes import check_image_size
from keras_spd.typing import Array, Path

_log = logging.getLogger(__name__)
_CACHE_BYTES = 2 * 2**30
_TAKES = (
    "A classifier takes a folder with a subfolder of images for each class, FOLDER/CLASS/image.png"
)


class NoClassFoldersError(ValueError):
    """The path is not a folder with one subfolder of images per class."""


def from_folder(
    folder: Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
    on_problem: str = "error",
    max_value: float | Literal["auto"] | None = None,
    resize: str = "stretch",
) -> ClassificationData:
    """Reads images from a folder with one subfolder per class, `folder/CLASS/...`.

    Works without TensorFlow. Every image is decoded once before training starts, so broken images
    are found early. Pixels are kept in memory if they take less than 2 GiB.

    Args:
        folder: Path.
        image_size: Integer or `(height, width)`, in pixels, to resize images to; required if their
            sizes differ.
        class_names: The classes, in order; pass those of the training data for test data.
            Defaults to the names of the subfolders, sorted.
        on_problem: `"error"`, or `"skip"` to skip broken images. Either way, a warning names each
            of them.
        max_value: Number, the value that maps to 255 in images with more than 8 bits, as in
            `keras_spd.images.to_rgb`, such as 4095 for a 12-bit camera; or `"auto"` to find it with
            `keras_spd.images.find_max_value`. Read test data with the training data's value,
            `train.max_value`. `keras_spd.training.train` does this and stores the value in the
            model. With `fit`, store it yourself: `model.info = dataclasses.replace(model.info,
            max_value=train.max_value)`.
        resize: `"stretch"` or `"letterbox"`, as in `keras_spd.applications.Preprocessing`.

    Returns:
        `ClassificationData`.

    Raises:
        ValueError: If there are no images; if they differ in size and `image_size` is not given; if
            a folder is not among `class_names`; or if images are broken and `on_problem` is
            `"error"`.

    Example:

    >>> train = keras_spd.data.from_folder("leaves/train", image_size=(64, 64))
    >>> test = keras_spd.data.from_folder(
    ...     "leaves/test", image_size=(64, 64), class_names=train.class_names
    ... )
    """
    check_on_problem(on_problem)
    preprocessing = Preprocessing(resize)
    files, labels, class_names = _find(pathlib.Path(folder), class_names)
    size = _common_size(files) if image_size is None else check_image_size(image_size)
    max_value = check_data_max_value(max_value)
    if max_value == "auto":
        regular = (file for file in files if file.is_file())
        max_value = find_max_value(regular, on_problem="skip")
    preprocessing = dataclasses.replace(preprocessing, max_value=max_value)
    pixels = _Images(files, size, preprocessing)
    broken = pixels.read_all()
    for problem in broken.values():
        _log.warning("%s", problem)
    if broken and on_problem == "error":
        raise ValueError(
            f"{len(broken)} of {len(files)} images in {folder} are broken; the first: "
            f"{next(iter(broken.values()))} Fix them, or skip them with "
            '`on_problem="skip"` (`--on-problem skip`).'
        )
    usable = np.array([index for index in range(len(files)) if index not in broken], int)
    if not len(usable):
        raise ValueError(f"None of the {len(files)} images in {folder} can be read.")
    pixels, labels = pixels.select(usable), np.array(labels)[usable]
    for label in set(range(len(class_names))) - set(labels.tolist()):
        _log.warning("%s has no image of the class %r.", folder, class_names[label])

    return in_memory(pixels, labels, class_names, max_value=max_value, resize=resize)


def _find(
    folder: pathlib.Path, class_names: Sequence[str] | None
) -> tuple[list[pathlib.Path], list[int], tuple[str, ...]]:
    """Returns image paths, labels and class names."""
    if not folder.is_dir():
        raise NoClassFoldersError(
            f"There is no folder {folder}. {_TAKES}; data with boxes, such as `data.yaml` and "
            "COCO's `.json`, are for detectors."
        )
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    folders = sorted(path for path in visible if path.is_dir() and find_images(path))
    if not folders:
        raise NoClassFoldersError(
            f"There are no images in subfolders of {folder}. Put the images of each class in their "
            f"own folder: {folder}/CLASS/image.png."
        )
    boxes = [name for name in ("labels", "Annotations") if (folder / name).is_dir()]
    if boxes and len(folders) == 1:
        raise NoClassFoldersError(
            f"{folder} has the folders {folders[0].name} and {boxes[0]}: these are images with "
            f"boxes, for detectors. {_TAKES}."
        )
    for path in sorted(path for path in visible if path.is_dir() and path not in folders):
        others = next((file for file in find_visible(path) if file.is_file()), None)
        _log.warning(
            "%s is not a class: it has no image in a format that is read (%s)%s.",
            path,
            ", ".join(SUFFIXES),
            f", but {others.name}" if others else "",
        )
    class_names = tuple(class_names or (path.name for path in folders))
    unknown = [path.name for path in folders if path.name not in class_names]
    if unknown:
        raise ValueError(f"{folder} has classes {unknown} that are not among {list(class_names)}.")
    files, labels = [], []
    for path in folders:
        found = find_images(path)
        files += found
        labels += [class_names.index(path.name)] * len(found)
    return files, labels, class_names


def _common_size(files: list[pathlib.Path]) -> tuple[int, int]:
    """Returns the common size of all readable images."""
    sizes: dict[tuple[int, int], pathlib.Path] = {}
    for file in files:
        try:
            check_file(file)
            sizes.setdefault(images.image_size(file), file)
        except ImageError:
            continue  # reported with all others when pixels are read
        if len(sizes) > 1:
            (first, one), (second, other) = sizes.items()
            raise ValueError(
                f"Images differ in size: {one} is {first[0]}x{first[1]}, {other} {second[0]}x"
                f"{second[1]} (height x width). Pass `image_size=(height, width)`, or "
                "`--image-size` on the command line."
            )
    if not sizes:
        raise ValueError(f"None of the {len(files)} images can be read; the first is {files[0]}.")
    return next(iter(sizes))


class _Images:
    """Image files that can be indexed like an array of shape `(images, height, width, 3)`."""

    def __init__(
        self,
        files: list[pathlib.Path],
        size: tuple[int, int],
        preprocessing: Preprocessing,
        cache: Array | None = None,
    ) -> None:
        self.files = files
        self.preprocessing = preprocessing
        self.shape = (len(files), *size, 3)
        self.cache = cache

    def read_all(self) -> dict[int, ImageError]:
        """Reads every image, caches them if they fit, and returns the errors by index."""
        if np.prod(self.shape, dtype="int64") < _CACHE_BYTES:
            self.cache = np.zeros(self.shape, "uint8")
        broken = {}
        for index, file in enumerate(self.files):
            try:
                pixels = self._read(file)
            except ImageError as error:
                broken[index] = error
                continue
            if self.cache is not None:
                self.cache[index] = pixels
        return broken

    def select(self, indices: Any) -> "_Images":
        """Returns the images with these indices."""
        cache = None if self.cache is None else self.cache[indices]
        files = [self.files[index] for index in indices]
        return _Images(files, self.shape[1:3], self.preprocessing, cache)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Any) -> Array:
        if self.cache is not None:
            return self.cache[indices]
        return np.stack([self._read(self.files[index]) for index in indices])

    def _read(self, file: pathlib.Path) -> Array:
        check_file(file)
        picture = to_rgb(file, max_value=self.preprocessing.max_value)
        return self.preprocessing.resize_image(picture, self.shape[1:3])
