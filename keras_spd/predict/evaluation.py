"""Scores a detector on a dataset with COCO's metrics."""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from keras_spd.data.detection.boxed_image import BoxedImage
from keras_spd.data.detection.dataset import DetectionData, require_boxes
from keras_spd.detection.decoding import Decoder
from keras_spd.detection.image_size import standardize_image_size
from keras_spd.detection.protocol import DetectorProtocol, check_detector
from keras_spd.images.batching import in_batches
from keras_spd.images.geometry import Letterbox, letterbox
from keras_spd.images.read import bytes_to_read
from keras_spd.images.tiles import check_tile, warn_of_large_tile, warn_of_missing_tile
from keras_spd.images.workers import decoding, map_ahead
from keras_spd.metrics import COCOScores, evaluate_coco
from keras_spd.predict.loading import load_detector
from keras_spd.predict.predictor import Predictor, detect
from keras_spd.predict.results import Detections
from keras_spd.typing import Array, Path

_DETECTIONS = 300  # in an image, as in the authors' evaluation


def evaluate(
    model: DetectorProtocol | Path,
    data: DetectionData,
    image_size: int | tuple[int, int] | None = None,
    *,
    batch_size: int = 16,
    tile: int | tuple[int, int] | None = None,
    overlap: float = 0.2,
    confidence_threshold: float = 0.001,
    iou_threshold: float = 0.65,
    max_detections: int | None = None,
) -> COCOScores:
    """Scores a detector with pycocotools on all images, including those without detections.

    Images of similar shape share a batch with minimal padding ("rectangular" batches). As in the
    authors' evaluation, a box counts for every class above the threshold; a `Predictor` only
    reports the most confident class.

    Args:
        model: `Detector`, its path or a name, as in `keras_spd.Predictor`.
        data: `DetectionData`. If it has no `max_value`, the model's is used.
        image_size: Integer or `(height, width)`, as in `keras_spd.Predictor`.
        batch_size: Integer.
        tile, overlap: As in `keras_spd.Predictor`. Larger images are predicted in tiles, whose
            boxes are merged, and are scored as a whole. Scores by side then count network pixels
            in tiles.
        confidence_threshold, iou_threshold, max_detections: As in `keras_spd.detection.Decoder`;
            the defaults are the authors' for evaluation. `max_detections` is 300, or the number of
            boxes in an image with more.

    Returns:
        `keras_spd.metrics.COCOScores`.

    Raises:
        ValueError: If the model and the data differ in their classes, or the data have no boxes.

    Example:

    >>> scores = keras_spd.evaluate(model, test_data)
    >>> scores.metrics["AP_small"]
    """
    require_boxes(data, "data to score on")
    detections, scales = predict_coco(
        model,
        data,
        image_size,
        batch_size=batch_size,
        tile=tile,
        overlap=overlap,
        confidence_threshold=confidence_threshold,
        iou_threshold=iou_threshold,
        max_detections=max_detections,
    )
    return evaluate_coco(data.to_coco(), detections, scales=scales)


def check_same_classes(model: DetectorProtocol, data: DetectionData) -> None:
    """Raises a `ValueError` unless a model and data have the same classes, in the same order."""
    if model.num_classes != len(data.class_names):
        raise ValueError(
            f"The model has {model.num_classes} classes, the data {len(data.class_names)}: "
            f"{', '.join(data.class_names)}."
        )
    if model.info.class_names not in (None, data.class_names):
        raise ValueError(
            f"The model has the classes {model.info.class_names}, the data {data.class_names}. "
            "Read the data with `class_names=model.info.class_names`."
        )


def predict_coco(
    model: DetectorProtocol | Path,
    data: DetectionData,
    image_size: int | tuple[int, int] | None = None,
    *,
    batch_size: int = 16,
    tile: int | tuple[int, int] | None = None,
    overlap: float = 0.2,
    **thresholds: Any,
) -> tuple[list[dict[str, Any]], dict[int, float]]:
    """Finds objects in all images of a dataset, with or without annotations.

    Args:
        model, data, image_size, batch_size, tile, overlap: As in `evaluate`.
        **thresholds: `confidence_threshold` and `iou_threshold`, the model's by default, and
            `max_detections`, as in `evaluate`.

    Returns:
        COCO results, a list of `{"image_id", "category_id", "bbox", "score"}` with xywh boxes in
        original pixels, and a dictionary from image id to network pixels per original pixel.

    Raises:
        ValueError: If the model and the data differ in their classes, or an argument is not as
            described.

    Example:

    >>> results, scales = keras_spd.predict.predict_coco(model, test_data)
    >>> keras_spd.metrics.evaluate_coco(test_data.to_coco(), results, scales=scales)
    """
    model = check_detector(load_detector(model) if isinstance(model, str | os.PathLike) else model)
    check_same_classes(model, data)
    if data.max_value is None:
        data = data.with_max_value(model.info.max_value)
    if thresholds.get("max_detections") is None:
        most = max((int((~image.crowd).sum()) for image in data.images), default=0)
        thresholds["max_detections"] = max(most, _DETECTIONS)
    predicted: Iterator[tuple[BoxedImage, Detections, float]]
    if tile is None:
        warn_of_missing_tile([image.size_hw for image in data.images], model.info.tile)
        size = standardize_image_size(image_size, model)
        decoder = dataclasses.replace(model.decoder, **thresholds)
        predicted = _predict_whole(model, data, size, batch_size, decoder)
    else:
        options: dict[str, Any] = {"tile": tile, "overlap": overlap, **thresholds}
        predictor = Predictor(model, image_size, batch_size=batch_size, multi_label=True, **options)
        warn_of_large_tile([image.size_hw for image in data.images], check_tile(tile))
        predicted = _predict_tiles(predictor, data, check_tile(tile))
    former = model.decoder
    results, scales = [], {}
    try:
        for image, found, scale in predicted:
            scales[image.image_id] = scale
            results += found.to_coco(image.image_id, data.category_ids)
    finally:
        model.decoder = former
    return results, scales


def _predict_whole(
    model: DetectorProtocol,
    data: DetectionData,
    size: tuple[int, int],
    batch_size: int,
    decoder: Decoder,
) -> Iterator[tuple[BoxedImage, Detections, float]]:
    """Yields images, the objects in them, and network pixels per original pixel."""
    for images, canvases, fits in _batches(data, size, batch_size, model):
        for image, found in zip(images, detect(model, canvases, fits, decoder), strict=True):
            yield image, found, found.letterbox.scale


def _predict_tiles(
    predictor: Predictor, data: DetectionData, tile: tuple[int, int]
) -> Iterator[tuple[BoxedImage, Detections, float]]:
    """The same as `_predict_whole`, in tiles."""
    pictures = (Image.fromarray(image.read()) for image in data.images)
    for image, found in zip(data.images, predictor.predict_tiles(pictures, tile), strict=True):
        yield image, found, predictor.scale(image.size_hw)


def _batches(
    data: DetectionData, size: tuple[int, int], batch_size: int, model: DetectorProtocol
) -> Iterator[tuple[list[BoxedImage], Array, list[Letterbox]]]:
    """Yields batches of images of similar shape, with minimal padding, read ahead in threads."""
    groups = list(_groups(data, size, batch_size, model))

    def read(item: tuple[BoxedImage, tuple[int, int]]) -> tuple[Array, Letterbox]:
        image, canvas = item
        with decoding(bytes_to_read(image.whole.size_hw)):
            return letterbox(image.read(), canvas)

    items = ((image, canvas) for images, canvas in groups for image in images)
    boxed = map_ahead(read, items, 2 * batch_size)
    for images, canvas in groups:
        batch = np.zeros((batch_size, *canvas, 3), "uint8")  # the last one has the same shape
        fits = []
        for number in range(len(images)):
            batch[number], fit = next(boxed)
            fits.append(fit)
        yield images, batch, fits


def _groups(
    data: DetectionData, size: tuple[int, int], batch_size: int, model: DetectorProtocol
) -> Iterator[tuple[list[BoxedImage], tuple[int, int]]]:
    """Yields the images of each batch, and the size they are letterboxed to."""
    ordered = sorted(data.images, key=lambda image: image.size_hw[0] / image.size_hw[1])
    for images in in_batches(ordered, batch_size):
        canvas = size
        if model.image_sizes is None:
            canvas = Letterbox.canvas([image.size_hw for image in images], size, model.stride)
        yield images, canvas


def batch_shapes(
    model: DetectorProtocol,
    data: DetectionData,
    image_size: int | tuple[int, int] | None = None,
    *,
    batch_size: int = 16,
    **others: Any,
) -> list[tuple[int, int]]:
    """Returns the image sizes of `predict_coco`'s batches; XLA compiles the network for each.

    Args:
        model, data, image_size, batch_size: As in `evaluate`.
        **others: Further arguments of `predict_coco`, of which `tile` matters here.

    Returns:
        List of `(height, width)` without duplicates, in the order in which they are predicted.
    """
    if (tile := others.get("tile")) is not None:
        return [standardize_image_size(image_size, model, check_tile(tile))]
    size = standardize_image_size(image_size, model)
    return list(dict.fromkeys(canvas for _, canvas in _groups(data, size, batch_size, model)))
