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
from keras_spd.images.read import SUFFIXES, ImageError, find_visible
from keras_spd.images.workers import map_ahead
from keras_spd.predict.results import Classification, Detections
from keras_spd.typing import Path

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result", Detections, Classification)


class _Predictor(Protocol[_Result]):
    max_value: float | None

    @property
    def images_at_once(self) -> int: ...

    @property
    def images_ahead(self) -> int: ...

    def prepare(self, image: Any) -> Any: ...

    def predict_prepared(self, prepared: Any) -> list[_Result]: ...


def find_sources(
    arguments: Path | Iterable[Path], exclude: Path | None = None
) -> list[pathlib.Path]:
    """Finds image and video files.

    Args:
        arguments: File, folder (searched recursively, without hidden files) or glob pattern
            (`"photos/*.jpg"`, `"photos/**/*.png"`), or an iterable of them.
        exclude: Folder whose files are left out of the other folders and of patterns, such as the
            output of an earlier `predict_files`; each has to be named.

    Returns:
        List of `pathlib.Path`, in the order of the arguments.

    Raises:
        ValueError: If a file does not exist, or a folder or pattern has no images; the message
            names it.

    Example:

    >>> keras_spd.predict.find_sources(["photos/", "street.mp4"])
    [PosixPath('photos/board.jpg'), PosixPath('street.mp4')]
    """
    if isinstance(arguments, (str, os.PathLike)):
        arguments = [arguments]
    left_out = None if exclude is None else pathlib.Path(exclude).resolve()
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
        readable = sorted(file for file in map(pathlib.Path, found) if _is_image_or_video(file))
        if left_out is not None and not path.resolve().is_relative_to(left_out):
            own = {file for file in readable if left_out in file.resolve().parents}
            readable = [file for file in readable if file not in own]
            if own:
                _log.warning(
                    "Files in the output folder %s are left out: %d, such as %s.",
                    exclude,
                    len(own),
                    min(own).name,
                )
        if not readable:
            where = "that matches" if is_pattern else "in the folder"
            raise ValueError(f"There is no image or video {where} {argument}.")
        sources += readable
    return sources


def _is_image_or_video(path: pathlib.Path) -> bool:
    """Returns whether a file has the suffix of an image or a video."""
    return (path.suffix.lower() in SUFFIXES or video.is_video(path)) and path.is_file()


def stream(predictor: _Predictor[_Result], sources: Any) -> Iterator[_Result]:
    """Predicts sources one batch at a time, and reads the next ones in threads meanwhile.

    Args:
        predictor: `Predictor` or `Classifier`.
        sources: As in `Predictor.stream`. An iterator is not read ahead: it may be a camera.

    Yields:
        The results, as `Predictor.stream` does.
    """

    def prepare(item: tuple[Any, Any, str | None]) -> Any:
        source, image, path = item
        try:
            return predictor.prepare(source), image, path
        except ImageError as error:
            if path is None:
                raise
            return error

    ahead = 0 if isinstance(sources, Iterator) else predictor.images_ahead
    prepared = map_ahead(prepare, _items(sources), ahead)
    for batch in in_batches(_without_errors(prepared), predictor.images_at_once):
        found = predictor.predict_prepared([one for one, _, _ in batch])
        for result, (_, image, path) in zip(found, batch, strict=True):
            result = result.with_image(image, predictor.max_value)
            yield dataclasses.replace(result, path=path)


def _items(sources: Any) -> Iterator[tuple[Any, Any, str | None]]:
    """Yields what to read, the image to report with the result, and the path of its file."""
    for source in standardize_images(sources):
        if not isinstance(source, (str, os.PathLike)):
            yield source, source, None
            continue
        for path in find_sources([source]):
            if not video.is_video(path):
                yield path, path, str(path)
                continue
            try:
                for frame in video.read_video(path):
                    yield frame.pixels, frame.pixels, str(path)
            except video.VideoError as error:
                _log.warning("%s", error)


def _without_errors(items: Iterable[Any]) -> Iterator[Any]:
    """Yields items; errors among them become warnings."""
    for item in items:
        if isinstance(item, ImageError):
            _log.warning("%s", item)
        else:
            yield item
