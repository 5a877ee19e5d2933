"""Finds objects in images of any size, with boxes in pixels of the original image."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_spd.boxes import convert_boxes
from keras_spd.detection.decoding import Decoder
from keras_spd.detection.image_size import standardize_image_size
from keras_spd.detection.protocol import DetectorProtocol, check_detector
from keras_spd.image_model import known_preprocessing
from keras_spd.images.batching import BatchSizes, in_batches, standardize_images
from keras_spd.images.geometry import Letterbox, letterbox
from keras_spd.images.read import to_rgb
from keras_spd.images.tiles import check_overlap, check_tile, part_size, tile_corners
from keras_spd.predict import tiles
from keras_spd.predict.loading import load_detector
from keras_spd.predict.results import Detections
from keras_spd.predict.stream import stream
from keras_spd.typing import Array, Path


class Predictor:
    """Runs a detector on image files and arrays of any size.

    Args:
        model: `Detector`; the path of one: a `.keras` file, a `.tflite` file (from `keras-spd
            export`, or a YOLO detector from Ultralytics) or a PyTorch checkpoint of YOLOv5; or a
            name from `keras_spd.list_models`.
        image_size: Integer or `(height, width)`, the size in pixels that images are letterboxed
            to; multiples of the model's largest stride. Defaults to the size the model was
            trained at, or to 640.
        batch_size: Integer.
        tile: Integer or `(height, width)` in pixels. Larger images are cut into overlapping
            tiles, each letterboxed to `image_size` (by default, the size of a tile). The detector
            also runs on the whole image, for objects larger than the overlap. `None` for no
            tiles. Tiles show objects at full resolution, so train the model at the same scale, on
            `DetectionData.tiles`.
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
        self.image_size = standardize_image_size(image_size or self.tile, model)
        self.batch_size = batch_size
        self.multi_label = multi_label
        self.max_detections = max_detections
        self._batch_sizes = BatchSizes(model)
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
        if self.tile is not None:
            found = [
                self._predict_tiles(to_rgb(image, max_value=self.max_value), self.tile)
                for image in images
            ]
        else:
            batches = in_batches(map(self._prepare, images), self.batch_size)
            found = [one for batch in batches for one in self._predict(batch)]
        if not self.multi_label:
            found = [one.with_one_class_each() for one in found]
        return [
            one.with_image(image, self.max_value) for one, image in zip(found, images, strict=True)
        ]

    def stream(self, sources: Any) -> Iterator[Detections]:
        """Finds objects in any number of images, with one batch in memory.

        Args:
            sources: As in `__call__`; also folders, glob patterns and videos, as strings or
                paths, alone or in an iterable. Videos yield their frames.

        Yields:
            `Detections` in the order of the sources; `image` and `path` tell where they are from.
            Files that cannot be read are skipped, each with a warning that names it.

        Raises:
            ValueError: If a file, folder or pattern does not exist or has no images.

        Example:

        >>> for found in predictor.stream(["photos/", "street.mp4"]):
        ...     print(found.path, found)
        """
        return stream(self, sources, self.batch_size if self.tile is None else 1)

    def scale(self, size: tuple[int, int]) -> float:
        """Returns network pixels per pixel of an image of `(height, width)`, or of its tiles."""
        part = size if self.tile is None else part_size(size, self.tile)
        return Letterbox.fit(part, self.image_size).scale

    def _prepare(self, image: Any) -> tuple[Array, Letterbox]:
        return letterbox(to_rgb(image, max_value=self.max_value), self.image_size)

    def _predict_tiles(self, pixels: Image.Image, tile: tuple[int, int]) -> Detections:
        """Finds objects in one image and its tiles; one batch of tiles is in memory at a time."""
        size = pixels.size[::-1]
        found = self._predict([letterbox(pixels, self.image_size)])
        corners = tile_corners(size, tile, self.overlap)
        if len(corners) == 1:
            return found[0]
        # Smaller objects are complete in a tile, at a higher resolution.
        sides = found[0].boxes[:, 2:] - found[0].boxes[:, :2]
        large = (sides > self.overlap * np.array(tile[::-1])).any(axis=1)
        found = [found[0].select(large)]
        seen = [np.full(len(found[0]), tiles.IN_IMAGE)]
        side = part_size(size, tile)
        for batch in in_batches(corners, self.batch_size):
            parts = [letterbox(_cut(pixels, corner, side), self.image_size) for corner in batch]
            for corner, part in zip(batch, self._predict(parts), strict=True):
                boxes = part.boxes + np.array([*corner[::-1], *corner[::-1]], "float32")
                found.append(dataclasses.replace(part, boxes=boxes))
                cut = tiles.is_cut(boxes, corner, tile, size)
                seen.append(np.where(cut, tiles.CUT, tiles.IN_TILE))
        names = ("boxes", "confidence", "classes")
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in found]) for name in names
        }
        everything = dataclasses.replace(found[0], **arrays)
        kept = tiles.merge(
            everything.boxes,
            everything.confidence,
            everything.classes,
            np.concatenate(seen),
            self.decoder,
        )
        return everything.select(kept[: self.max_detections])

    def _predict(self, boxed: Sequence[tuple[Array, Letterbox]]) -> list[Detections]:
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
        List of `Detections`, one for each of `letterboxes`.
    """
    if model.decoder != decoder:
        model.decoder = decoder
    outputs = dict(model.predict_on_batch(known_preprocessing(model).normalize(images)))
    if model.bounding_box_format != "xyxy":
        size = images.shape[1:3]
        outputs["boxes"] = convert_boxes(outputs["boxes"], model.bounding_box_format, "xyxy", size)
    outputs = {key: np.asarray(value) for key, value in outputs.items()}
    found = []
    for index, fit in enumerate(letterboxes):
        count = int(outputs["num_detections"][index])
        found.append(
            Detections(
                boxes=fit.to_image(outputs["boxes"][index, :count]).astype("float32"),
                confidence=outputs["confidence"][index, :count],
                classes=outputs["classes"][index, :count],
                class_names=model.info.class_names,
                letterbox=fit,
            )
        )
    return found


def _cut(pixels: Image.Image, corner: tuple[int, int], part: tuple[int, int]) -> Image.Image:
    (top, left), (height, width) = corner, part
    return pixels.crop((left, top, left + width, top + height))
