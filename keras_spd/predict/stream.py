"""Finds image and video files, and predicts them one batch at a time."""

import dataclasses
import glob
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

from keras_spd.images import video
from keras_spd.images.batching import in_batches, standardize_images
from keras_spd.images.read import SUFFIXES, ImageError, find_visible, to_rgb
from keras_spd.predict.results import Classification, Detections
from keras_spd.typing import Path

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result", Detections, Classification)


class _Predictor(Protocol[_Result]):
    max_value: float | None

    def __call__(self, images: Any) -> list[_Result]: ...


def find_sources(arguments: Iterable[Path]) -> list[pathlib.Path]:
    """Finds image and video files.

    Args:
        arguments: Iterable of files, folders (searched recursively) and glob patterns
            (`"photos/*.jpg"`, `"photos/**/*.png"`).

    Returns:
        List of `pathlib.Path`, in the order of the arguments.

    Raises:
        ValueError: If a file does not exist, or a folder has no images; the message names it.
    """
    sources = []
    for argument in map(str, arguments):
        path = pathlib.Path(argument)
        if path.is_file():
            sources.append(path)
            continue
        if not argument:  # e.g. an unset shell variable; it would mean the current folder
            raise ValueError(
                "A file, folder or pattern is empty. To predict the current folder, pass `.`."
            )
        is_pattern = not path.exists() and glob.has_magic(argument)
        if not (is_pattern or path.is_dir()):
            raise ValueError(f"{argument}: there is no such file or folder.")
        found = glob.iglob(argument, recursive=True) if is_pattern else find_visible(path)
        known = sorted(file for file in map(pathlib.Path, found) if _is_known(file))
        if not known:
            where = "that matches" if is_pattern else "in the folder"
            raise ValueError(f"There is no image or video {where} {argument}.")
        sources += known
    return sources


def _is_known(path: pathlib.Path) -> bool:
    return (path.suffix.lower() in SUFFIXES or video.is_video(path)) and path.is_file()


def stream(predictor: _Predictor[_Result], sources: Any, step: int) -> Iterator[_Result]:
    """Predicts sources one batch at a time.

    Args:
        predictor: `Predictor` or `Classifier`.
        sources: As in `Predictor.stream`.
        step: Integer, how many images to predict at once.

    Yields:
        The results, as `Predictor.stream` does.
    """
    for batch in in_batches(_read(sources, predictor.max_value), step):
        found = predictor([pixels for pixels, _, _ in batch])
        for result, (_, image, path) in zip(found, batch, strict=True):
            yield dataclasses.replace(result, image=image, path=path)


def _read(sources: Any, max_value: float | None) -> Iterator[tuple[Any, Any, str | None]]:
    """Yields the pixels of each image, the image as the user knows it, and the path of its file."""
    for source in standardize_images(sources):
        if not isinstance(source, (str, os.PathLike)):
            yield source, source, None
            continue
        for path in find_sources([source]):
            try:
                if video.is_video(path):
                    for frame in video.read_video(path):
                        yield frame.pixels, frame.pixels, str(path)
                else:
                    yield to_rgb(path, max_value=max_value), path, str(path)
            except (ImageError, video.VideoError) as error:
                _log.warning("%s", error)
