"""Reads the images that calibrate an exported file and verify it."""

import logging
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_spd.data import load_classification, load_detection
from keras_spd.data.detection.yolo_labels import NoLabelsError
from keras_spd.detection.detector import Detector
from keras_spd.image_model import known_preprocessing
from keras_spd.images.geometry import letterbox
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.images.read import ImageError, find_images, to_rgb
from keras_spd.images.tiles import crop, part_size, tile_corners

_log = logging.getLogger(__name__)
_MOST = 200  # images
VERIFIED = 32  # of those, the images that a file is compared on


def read_images(
    model: keras.Model,
    size: tuple[int, int],
    source: str | None = None,
    *,
    name: str | None = None,
    images: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    on_problem: str = "error",
) -> np.ndarray:
    """Reads images as a model gets them, before normalisation; noise if there is no source.

    Args:
        model: `Detector` or classifier that defines its preprocessing.
        size: `(height, width)` of the network's input.
        source, name, images, data_dir, on_problem: As in `read_detector_images` and
            `read_classifier_images`.

    Returns:
        uint8 array `(images, height, width, channels)`; of three channels if they are read.

    Raises:
        ValueError: If the source cannot be read, the model does not take its RGB images, or there
            is no source but an option for one.
    """
    if source is None:
        if name is not None or images is not None:
            raise ValueError("`--dataset` and `--images` need `--data`, a split or a file.")
        channels = 3 if isinstance(model, Detector) else model.input_shape[-1]
        shape = (VERIFIED, *size, channels)
        return np.random.default_rng(0).integers(0, 256, shape, "uint8")
    if not isinstance(model, Detector) and model.input_shape[-1] != 3:
        raise ValueError(
            f"`--data` is read as RGB, but `{model.name}` takes images with "
            f"{model.input_shape[-1]} channels. Omit it; for int8, pass images in Python: "
            "`keras_spd.export.export_tflite(..., representative_data=...)`."
        )
    preprocessing = known_preprocessing(model)
    options: dict[str, Any] = {"name": name, "data_dir": data_dir, "on_problem": on_problem}
    if isinstance(model, Detector):
        options |= {"max_value": preprocessing.max_value, "tile": preprocessing.tile}
        return read_detector_images(source, size, images=images, **options)
    if images is not None:
        raise ValueError(f"`--images` is for detectors, and `{model.name}` is a classifier.")
    return read_classifier_images(source, size, preprocessing, **options)


def read_detector_images(
    source: str,
    size: tuple[int, int],
    *,
    images: str | os.PathLike | None = None,
    on_problem: str = "error",
    max_value: float | None = None,
    tile: tuple[int, int] | None = None,
    **options: Any,
) -> np.ndarray:
    """Reads at most 200 images, evenly spaced in a dataset, for a detector.

    If the detector was trained on tiles, tiles are read instead: of labelled images, those with an
    object and a tenth of the others; of other images, some evenly spaced ones.

    Args:
        source: Path as in `keras_spd.data.load_detection`, or a folder of images without labels.
        size: `(height, width)` of the network's input, in pixels.
        images: Folder of the images, if it cannot be found from `source`.
        on_problem: `"error"` to raise on a broken image, or `"skip"` to skip it.
        max_value, tile: Those of the model, as in `ModelInfo`.
        **options: `name` and `data_dir`, as in `load_detection`.

    Returns:
        uint8 array of shape `(images, height, width, 3)`, letterboxed.

    Raises:
        ValueError: If there are no images, or one is broken and `on_problem` is `"error"`.
    """
    pictures: Iterable[Any]
    try:
        found = load_detection(
            source, images=images, on_problem=on_problem, max_value="auto", **options
        )
        found = found.with_max_value(max_value)
        if tile is not None:
            found = found.tiles(tile)
        pictures = (image.read() for image in evenly(found.images, _MOST))
    except NoLabelsError:  # labels are not needed here
        if not pathlib.Path(source).is_dir():
            raise
        files = find_images(images or source)
        pictures = _read(files, on_problem, max_value)
        if tile is not None:
            numbered = enumerate(pictures)
            pictures = (part for pair in numbered for part in _cut(*pair, tile, len(files)))
    return _stacked([letterbox(pixels, size)[0] for pixels in pictures], source)


def read_classifier_images(
    source: str,
    size: tuple[int, int],
    preprocessing: Preprocessing,
    *,
    name: str | None = None,
    data_dir: str | os.PathLike | None = None,
    on_problem: str = "error",
) -> np.ndarray:
    """Reads at most 200 images for a classifier, without normalising them.

    Args:
        source: Folder of images, or, with `name`, a split of a dataset.
        size, on_problem: As in `read_detector_images`.
        preprocessing: The model's `Preprocessing`; its `resize` and `max_value` are used.
        name, data_dir: As in `keras_spd.data.load_classification`.

    Returns:
        Array of shape `(images, height, width, 3)`, pixels 0..255.

    Raises:
        ValueError: If there are no images, or one is broken and `on_problem` is `"error"`.
    """
    if name is not None:
        data = load_classification(
            source, name=name, data_dir=data_dir, image_size=size, resize=preprocessing.resize
        )
        batch, _ = next(iter(data.batches(_MOST)))
        return np.asarray(batch)
    files = find_images(source) if pathlib.Path(source).is_dir() else []
    if not files:
        raise ValueError(
            "`--data` must be a folder of images, or, with `--dataset NAME`, one of its splits. "
            f"Received: {source}."
        )
    pictures = _read(files, on_problem, preprocessing.max_value)
    return _stacked([preprocessing.resize_image(pixels, size) for pixels in pictures], source)


def _stacked(images: list[Any], source: str) -> np.ndarray:
    if not images:
        raise ValueError(f"No image of {source} can be read; the warnings say why.")
    return np.stack(images)


def _cut(number: int, picture: Any, tile: tuple[int, int], images: int) -> Iterator[Any]:
    """Yields some tiles of one of several images, so that there are at most 200 of all.

    Each image starts at another tile: the corners alone would show more background.
    """
    size = picture.size[::-1]
    corners = tile_corners(size, tile, 0.2)
    most = max(_MOST // images, 1)
    step = -(-len(corners) // most)
    for corner in corners[number % step :: step]:
        yield crop(np.asarray(picture), corner, part_size(size, tile)).copy()


def evenly(found: Sequence[Any], most: int) -> list[Any]:
    """Returns at most `most` of them, evenly spaced."""
    count = min(len(found), most)
    return [found[index * len(found) // count] for index in range(count)]


def _read(files: Sequence[Any], on_problem: str, max_value: float | None) -> Iterator[Any]:
    for file in evenly(files, _MOST):
        try:
            yield to_rgb(file, max_value=max_value)
        except ImageError as error:
            if on_problem == "error":
                raise ValueError(f"{error} Skip such images with `--on-problem skip`.") from error
            _log.warning("%s", error)
