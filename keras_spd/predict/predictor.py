"""Finds objects in images of any size, with boxes in pixels of the original image."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops
from PIL import Image

from keras_spd.boxes import convert_boxes
from keras_spd.detection.decoding import Decoder
from keras_spd.detection.detector import Detector
from keras_spd.detection.image_size import standardize_image_size
from keras_spd.detection.protocol import DetectorProtocol, check_detector
from keras_spd.image_model import known_preprocessing
from keras_spd.images.batching import BatchSizes, in_batches, standardize_images
from keras_spd.images.geometry import Letterbox, letterbox
from keras_spd.images.read import memory_to_read, to_rgb
from keras_spd.images.tiles import (
    check_overlap,
    check_tile,
    part_size,
    warn_of_missing_tile,
)
from keras_spd.images.workers import decoding, map_ahead
from keras_spd.predict.loading import load_detector
from keras_spd.predict.results import Detections
from keras_spd.predict.stream import stream
from keras_spd.predict.tiles import Grid
from keras_spd.typing import Array, Path


class Predictor:
    """Runs a detector on image files and arrays of any size.

    Args:
        model: `Detector`; the path of one: a `.keras` file, a `.tflite` or `.onnx` file (from
            `keras-spd export`, or a YOLO detector from Ultralytics) or a checkpoint of YOLOv5
            (`.pt`, `.pth`, `.safetensors`); or a name from `keras_spd.list_models`.
        image_size: Integer or `(height, width)`, the size in pixels that images are letterboxed
            to; multiples of the model's largest stride. Defaults to the size the model was
            trained at, or to 640.
        batch_size: Integer.
        tile: Integer or `(height, width)` in pixels. Larger images are cut into overlapping
            tiles, each letterboxed to `image_size`: by default the size of a tile, or the model's
            if it was trained on such tiles. The detector also runs on the whole image, for objects
            that no tile contains completely and, unless it was trained on tiles, for those larger
            than the overlap. `None` for no tiles. Tiles show objects at full resolution, so train
            the model at the same scale, on `DetectionData.tiles`.
        overlap: Fraction of a tile that the next tile also covers, 0..0.5. Objects smaller than
            the overlap are complete in at least one tile.
        confidence_threshold, iou_threshold, max_detections: As in `keras_spd.detection.Decoder`;
            `None` for the model's. A `max_detections` given here limits the image as well as each
            tile; the model's own limits each tile only.
        multi_label: Boolean, whether an object may be reported for several classes, as in the
            authors' evaluation and in `keras_spd.evaluate`, where it raises the scores. By
            default it is reported once: of boxes of different classes with an IoU above 0.7, only
            the most confident is kept.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> predictor = keras_spd.Predictor("runs/boards/model.keras")
    >>> [found] = predictor("board.jpg")
    >>> found.boxes, found.confidence, found.classes
    """

    def __init__(
        self,
        model: DetectorProtocol | Path,
        image_size: int | tuple[int, int] | None = None,
        *,
        batch_size: int = 16,
        tile: int | tuple[int, int] | None = None,
        overlap: float = 0.2,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        multi_label: bool = False,
    ) -> None:
        if isinstance(model, (str, os.PathLike)):
            model = load_detector(model)
        self.model = model = check_detector(model)
        self.max_value = model.info.max_value
        self.tile = None if tile is None else check_tile(tile)
        self.overlap = check_overlap(overlap)
        self.image_size = standardize_image_size(image_size, model, self.tile)
        self.batch_size = batch_size
        self.multi_label = multi_label
        self.max_detections = max_detections
        self._batch_sizes = BatchSizes(model)
        self._warned = False
        options: dict[str, Any] = {
            "confidence_threshold": confidence_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }
        self.decoder = dataclasses.replace(
            model.decoder, **{key: value for key, value in options.items() if value is not None}
        )

    def __call__(self, images: Any) -> list[Detections]:
        """Finds objects.

        Args:
            images: One image or an iterable of images, as accepted by `keras_spd.images.to_rgb`:
                paths, bytes of image files, Pillow images of any mode, or uint8 or uint16 arrays
                of shape `(height, width)` or `(height, width, channels)` with 1, 3 or 4 channels.
                An array of rank 4 is a batch.

        Returns:
            List of `Detections`, one for each image; also for a single image.

        Raises:
            ValueError: If an image cannot be read; the message names the file.
        """
        images = list(standardize_images(images))
        prepared = map_ahead(self.prepare, images, self.images_ahead if len(images) > 1 else 0)
        if self.tile is not None:
            found = self.predict_prepared(prepared)
        else:
            batches = in_batches(prepared, self.batch_size)
            found = [one for batch in batches for one in self.predict_prepared(batch)]
        return [
            one.with_image(image, self.max_value) for one, image in zip(found, images, strict=True)
        ]

    def stream(self, sources: Any) -> Iterator[Detections]:
        """Finds objects in any number of images, with three batches in memory.

        Args:
            sources: As in `__call__`; also folders, glob patterns and videos, as strings or
                paths, alone or in an iterable. Videos yield their frames.

        Yields:
            `Detections` in the order of the sources; `image` and `path` are their sources.
            Files that cannot be read are skipped, each with a warning that names it.

        Raises:
            ValueError: If a file, folder or pattern does not exist or has no images.

        Example:

        >>> for found in predictor.stream(["photos/", "street.mp4"]):
        ...     print(found.path, found)
        """
        return stream(self, sources)

    def scale(self, size: tuple[int, int]) -> float:
        """Returns network pixels per pixel of an image of `(height, width)`, or of its tiles."""
        part = size if self.tile is None else part_size(size, self.tile)
        return Letterbox.fit(part, self.image_size).scale

    def prepare(self, image: Any) -> Any:
        """Reads an image and letterboxes it, in any thread; the first half of `__call__`."""
        with decoding(memory_to_read(image)):
            picture = to_rgb(image, max_value=self.max_value)
            return picture if self.tile is not None else letterbox(picture, self.image_size)

    def predict_prepared(self, prepared: Iterable[Any]) -> list[Detections]:
        """Finds objects in one batch of what `prepare` returns; the second half of `__call__`."""
        if self.tile is not None:
            found = list(self.predict_tiles(prepared, self.tile))
        else:
            boxed = list(prepared)
            self._warn_of_missing_tile(boxed)
            found = self._predict(boxed)
        return found if self.multi_label else [one.with_one_class_each() for one in found]

    def _warn_of_missing_tile(self, boxed: Sequence[tuple[Array, Letterbox]]) -> None:
        """Warns once if the detector was trained on tiles of images of this size."""
        if self.model.info.tile is not None and not self._warned:
            sizes = [fit.image_size_hw for _, fit in boxed]
            self._warned = warn_of_missing_tile(sizes, self.model.info.tile)

    def predict_tiles(
        self, pictures: Iterable[Image.Image], tile: tuple[int, int]
    ) -> Iterator[Detections]:
        """Finds objects in images and their tiles; a batch may hold tiles of several images.

        Args:
            pictures: Iterable of Pillow RGB images. Those of one batch are in memory at a time.
            tile: `(height, width)` of a tile in pixels.

        Yields:
            `Detections` of each image, with every confident class.
        """
        grids: collections.deque[Grid] = collections.deque()
        found: list[Detections] = []
        for batch in in_batches(self._parts(pictures, tile, grids), self.batch_size):
            found += self._predict(batch)
            while grids and len(found) >= grids[0].num_parts:
                grid = grids.popleft()
                own, found = found[: grid.num_parts], found[grid.num_parts :]
                yield grid.assemble(own, self.decoder, self.max_detections)

    def _parts(
        self, pictures: Iterable[Image.Image], tile: tuple[int, int], grids: collections.deque[Grid]
    ) -> Iterator[tuple[Array, Letterbox]]:
        """Yields each image and, if it is larger, its tiles; appends its `Grid` to `grids`."""
        for picture in pictures:
            on_tiles = self.model.info.tile is not None
            grid = Grid(picture.size[::-1], tile, self.overlap, trained_on_tiles=on_tiles)
            grids.append(grid)
            yield letterbox(picture, self.image_size)
            for box in grid.tile_boxes:
                yield letterbox(picture.crop(box), self.image_size)

    @property
    def images_at_once(self) -> int:
        """Integer, how many images to predict at once: with tiles, one large image."""
        return self.batch_size if self.tile is None else 1

    @property
    def images_ahead(self) -> int:
        """Integer, how many images to read ahead; none with tiles."""
        return 2 * self.batch_size if self.tile is None else 0

    def _predict(self, boxed: Sequence[tuple[Array, Letterbox]]) -> list[Detections]:
        if isinstance(self.model, Detector) and self.model.decoder != self.decoder:
            self.model = self.model.with_decoder(self.decoder)  # the user's model keeps its own
        canvases = self._batch_sizes.fill(np.stack([canvas for canvas, _ in boxed]))
        return detect(self.model, canvases, [fit for _, fit in boxed], self.decoder)


def detect(
    model: DetectorProtocol, images: Array, letterboxes: Iterable[Letterbox], decoder: Decoder
) -> list[Detections]:
    """Runs a detector on one batch of letterboxed images.

    Args:
        model: `Detector`, or another object with its interface. It keeps the `decoder`.
        images: Array of shape `(batch, height, width, 3)`, pixels 0..255.
        letterboxes: `Letterbox` of each image. Further images only fill the batch and are
            ignored.
        decoder: `Decoder`.

    Returns:
        List of `Detections`, one for each of `letterboxes`. Boxes outside the image are dropped.
    """
    if model.decoder != decoder:
        model.decoder = decoder
    outputs = dict(model.predict_on_batch(known_preprocessing(model).normalize(images)))
    if model.bounding_box_format != "xyxy":
        size = images.shape[1:3]
        boxes = convert_boxes(outputs["boxes"], model.bounding_box_format, "xyxy", size)
        outputs["boxes"] = ops.convert_to_numpy(boxes)  # from a GPU, where NumPy cannot read it
    outputs = {key: np.asarray(value) for key, value in outputs.items()}
    found = []
    for index, fit in enumerate(letterboxes):
        count = int(outputs["num_detections"][index])
        boxes = fit.to_image(outputs["boxes"][index, :count]).astype("float32")
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # others were clipped to nothing
        found.append(
            Detections(
                boxes=boxes[inside],
                confidence=outputs["confidence"][index, :count][inside],
                classes=outputs["classes"][index, :count][inside],
                class_names=model.info.class_names,
                letterbox=fit,
            )
        )
    return found
