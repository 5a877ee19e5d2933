"""Predicts images, videos and webcams, and writes pictures and tables of the results."""

import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import pathlib
import re
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, cast

import numpy as np
from PIL import Image

from keras_spd.detection.protocol import DetectorProtocol
from keras_spd.images import video
from keras_spd.images.batching import in_batches
from keras_spd.images.draw import JPEG, draw_classes, draw_detections, save_picture
from keras_spd.images.read import ImageError, memory_to_read, to_rgb
from keras_spd.images.workers import decoding, map_ahead
from keras_spd.predict.annotation_files import name_images, write_annotations
from keras_spd.predict.classifier import Classifier
from keras_spd.predict.loading import load_any
from keras_spd.predict.predictor import Predictor
from keras_spd.predict.result_files import ResultFiles
from keras_spd.predict.results import Classification, Detections
from keras_spd.typing import Path

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 10


def load_predictor(
    weights: Path,
    image_size: int | tuple[int, int] | None = None,
    *,
    batch_size: int = 16,
    **detector_options: Any,
) -> Predictor | Classifier:
    """Loads a trained model for prediction.

    Args:
        weights: Path of a `.keras` file, of a `.tflite` or `.onnx` file from `keras-spd export` or
            Ultralytics (YOLO detectors), or of a checkpoint (`.pt`, `.pth`, `.safetensors`); or a
            name from `keras_spd.list_models`.
        image_size, batch_size: As in `Predictor` and `Classifier`.
        **detector_options: Other arguments of `Predictor`; `None` for their defaults.

    Returns:
        `Predictor` for a detector, `Classifier` for a classifier.

    Raises:
        ValueError: If the model is neither, or it is a classifier and there are options for
            detectors.

    Example:

    >>> predictor = keras_spd.predict.load_predictor("bccd", confidence_threshold=0.5)
    """
    model = load_any(weights)
    options = {key: value for key, value in detector_options.items() if value is not None}
    if isinstance(model, DetectorProtocol):
        return Predictor(model, image_size, batch_size=batch_size, **options)
    if options:
        raise ValueError(f"{weights} is not a detector and does not take: {', '.join(options)}.")
    return Classifier(model, image_size, batch_size=batch_size)


def trust_image_sizes(any_size: bool) -> None:
    """Lets this process read large images without a warning.

    Args:
        any_size: Whether to also read images that Pillow refuses as decompression bombs.
    """
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if any_size:
        Image.MAX_IMAGE_PIXELS = None


def name_pictures(sources: Sequence[Path]) -> list[str]:
    """Returns a name for the results of each file, without a suffix: `00012_spur_board`.

    It consists of the file's number, its folder if there are several folders, and its own name.

    Args:
        sources: List of paths.

    Returns:
        List of strings, one for each file.

    Example:

    >>> keras_spd.predict.name_pictures(["spur/a.png", "open/a.png"])
    ['00000_spur_a', '00001_open_a']
    """
    paths = [pathlib.Path(source) for source in sources]
    several = len({path.parent for path in paths}) > 1
    return [
        "_".join(filter(None, (f"{number:05d}", path.parent.name if several else "", path.stem)))
        for number, path in enumerate(paths)
    ]


def _picture_of(name: str, source: Path) -> str:
    """Returns the file name of an annotated copy: a JPEG of a JPEG, a PNG of other images."""
    if video.is_video(source):
        return f"{name}.mp4"
    return name + (".jpg" if pathlib.Path(source).suffix.lower() in JPEG else ".png")


def _warn_of_others(output: pathlib.Path, names: Collection[str]) -> None:
    """Warns of pictures and videos of an earlier run, which are kept."""
    others = [
        path.name
        for path in sorted(output.iterdir())
        if re.fullmatch(r"\d{5,}_.*\.(png|jpg|mp4)", path.name) and path.name not in names
    ]
    if others:
        _log.warning(
            "%s holds pictures or videos of an earlier run: %d, such as %s. They are kept; JSON "
            "and CSV only contain this run. To separate runs, choose another `--output`.",
            output,
            len(others),
            others[0],
        )


def predict_files(
    predictor: Predictor | Classifier,
    sources: Path | Sequence[Path],
    output: Path,
    *,
    webcam: int | None = None,
    pictures: bool = True,
    labels: bool = True,
    annotations: str | None = None,
    say: Callable[[str], Any] = _log.info,
) -> int:
    """Predicts files and writes pictures, a JSON file and a CSV file.

    Keeps three batches of images or one of video frames in memory; with tiles, one image.

    Args:
        predictor: `Predictor` or `Classifier`.
        sources: Path of an image or video, or a list of them, as `find_sources` returns it.
        output: Path of the output folder. It gets an annotated copy of each image (`.jpg` of a
            JPEG, otherwise `.png`) and video (`.mp4`), and `detections.json` and `.csv` (for a
            classifier, `classes.json` and `.csv`). Pictures of an earlier run are kept, with a
            warning.
        webcam: Integer, a camera to read after the files, until the program is interrupted.
        pictures: Boolean, whether to write annotated copies.
        labels: Boolean, whether boxes are drawn with class names and confidences.
        annotations: Format of `write_annotations`, to also write detections in images as
            annotations; `None` for none.
        say: Function that is called with a line of text for each image.

    Returns:
        Integer, how many files could not be read; each is named in a warning.

    Raises:
        ValueError: If `annotations` is not a known format, or is passed with a classifier, a video
            or a webcam.

    Example:

    >>> predictor = keras_spd.predict.load_predictor("bccd")
    >>> predict_files(predictor, find_sources(["slides/"]), "predictions")
    """
    sources = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    is_detector = isinstance(predictor, Predictor)
    numbered = list(zip(name_pictures(sources), sources, strict=True))
    _warn_of_others(output, {_picture_of(name, source) for name, source in numbered})
    if annotations is not None:
        if not is_detector or webcam is not None or any(map(video.is_video, sources)):
            received = "a video or a webcam" if is_detector else "a classifier"
            raise ValueError(
                "`annotations` needs a detector, and images as the only sources. "
                f"Received: {received}."
            )
        name_images([str(source) for source in sources], annotations)  # its errors come first
    with ResultFiles(output, "detections" if is_detector else "classes") as results:
        keep = annotations is not None
        run = _Run(predictor, output if pictures else None, labels, results, say, keep)
        try:
            for is_video, group in itertools.groupby(
                numbered, key=lambda entry: video.is_video(entry[1])
            ):
                if is_video:
                    for name, path in group:
                        run.video(name, path, video.read_video(path))
                else:
                    run.images(group)
            if webcam is not None:
                run.video(f"webcam{webcam}", f"webcam:{webcam}", video.read_webcam(webcam))
        finally:
            if annotations is not None and run.found:
                write_annotations(run.found, output, annotations)
    return run.problems


class _Run:
    """One call of `predict_files`."""

    def __init__(
        self,
        predictor: Predictor | Classifier,
        pictures: pathlib.Path | None,
        labels: bool,
        results: ResultFiles,
        say: Callable[[str], Any],
        keep: bool,
    ) -> None:
        self.predictor, self.pictures, self.results, self.say = predictor, pictures, results, say
        is_detector = isinstance(predictor, Predictor)
        self.draw: Callable[[Any, Any], Image.Image] = (
            functools.partial(draw_detections, labels=labels) if is_detector else draw_classes
        )
        self.problems = 0
        self.found: list[Detections] | None = [] if keep else None

    def images(self, files: Iterable[tuple[str, Path]]) -> None:
        """Predicts images, and reads the next ones in threads meanwhile."""
        read = map_ahead(self._read, files, self.predictor.images_ahead)
        for batch in in_batches(read, self.predictor.images_at_once):
            for item in batch:
                if isinstance(item, ImageError):
                    self._problem(item)
            images = [item for item in batch if not isinstance(item, ImageError)]
            if images:
                self._add(images)

    def _read(self, file: tuple[str, Path]) -> Any:
        """Reads an image: its picture's name, path, pixels if drawn, and the network's input."""
        name, path = file
        try:
            with decoding(memory_to_read(path)):
                picture = to_rgb(path, max_value=self.predictor.max_value)
                prepared = self.predictor.prepare(picture)
        except ImageError as error:
            return error
        return name, path, picture if self.pictures is not None else None, prepared

    def _add(self, images: Sequence[tuple[str, Path, Any, Any]]) -> None:
        prepared: Any = [one for *_, one in images]
        found: Sequence[Detections | Classification] = self.predictor.predict_prepared(prepared)
        if self.pictures is not None:
            pairs = zip(images, found, strict=True)
            list(map_ahead(self._draw, pairs, None if len(images) > 1 else 0))
        for (name, path, _, _), result in zip(images, found, strict=True):
            source = {"image": str(path)}
            if self.found is not None and isinstance(result, Detections):
                self.found.append(dataclasses.replace(result, path=str(path)))
            if self.pictures is not None:
                source["picture"] = _picture_of(name, path)
            self.results.add(source, result)
            self.say(f"{path}: {result}")
        self.results.flush()

    def _draw(self, pair: tuple[tuple[str, Path, Any, Any], Any]) -> None:
        (name, path, picture, _), result = pair
        folder = cast(pathlib.Path, self.pictures)
        save_picture(self.draw(picture, result), folder / _picture_of(name, path))

    def video(self, name: str, path: Path, frames: Iterable[video.Frame]) -> None:
        source = {"video": str(path)}
        count, said = 0, time.monotonic()
        try:
            with contextlib.ExitStack() as files:
                writer = size = None
                if self.pictures is not None:
                    source["picture"] = f"{name}.mp4"
                    writer = files.enter_context(
                        video.VideoWriter(self.pictures / source["picture"])
                    )
                for batch in in_batches(frames, self.predictor.images_at_once):
                    found: Sequence[Detections | Classification] = self.predictor(
                        [frame.pixels for frame in batch]
                    )
                    for frame, result in zip(batch, found, strict=True):
                        if writer is not None:
                            picture = self.draw(frame.pixels, result)
                            size = size or picture.size  # that of a classifier depends on its text
                            canvas = Image.new("RGB", size, "white")
                            canvas.paste(picture)
                            writer.write(np.asarray(canvas), frame.time)
                        moment = {"frame": frame.index, "time": round(frame.time, 4)}
                        self.results.add(source | moment, result)
                    self.results.flush()
                    count += len(batch)
                    if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                        self.say(f"{path}: {count} frames so far, the last with {found[-1]}")
                        said = time.monotonic()
        except video.VideoError as error:
            self._problem(error)
        if count:
            self.say(f"{path}: {count} frames")

    def _problem(self, error: Exception) -> None:
        _log.warning("%s", error)
        self.problems += 1
