"""Scores a trained model on a dataset and writes files and pictures that explain the scores."""

import dataclasses
import logging
import os
import pathlib
from typing import Any

import numpy as np

from keras_spd import metrics
from keras_spd.data import load_classification, load_detection
from keras_spd.data.classification.dataset import ClassificationData
from keras_spd.data.classification.folder import NoClassFoldersError
from keras_spd.data.detection.dataset import DetectionData, require_boxes
from keras_spd.data.problems import plural
from keras_spd.files import write_json
from keras_spd.predict.classifier import Classifier
from keras_spd.predict.evaluation import batch_shapes, predict_coco
from keras_spd.predict.files import load_predictor

_log = logging.getLogger(__name__)
_OF_MATRIX = {"confidence": 0.25, "iou": 0.45}


def score_model(
    weights: str | os.PathLike,
    source: str,
    folder: str | os.PathLike,
    *,
    name: str | None = None,
    images: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    on_problem: str = "error",
    image_size: tuple[int, int] | None = None,
    batch_size: int = 16,
    tile: tuple[int, int] | None = None,
    overlap: float | None = None,
    confidence_threshold: float | None = None,
    iou_threshold: float | None = None,
    mirror: bool = False,
) -> metrics.COCOScores | metrics.ClassificationScores:
    """Scores a model, a detector or a classifier, on a dataset.

    Args:
        weights: What `keras_spd.predict.load_predictor` loads.
        source: Path or split, as in `keras_spd.data.load_detection` or, for a classifier,
            `keras_spd.data.load_classification`.
        folder: Path of a folder, created if needed. It gets the files of `score_detector` or
            `score_classifier`.
        name, images, data_dir, on_problem: As in `keras_spd.data.load_detection`.
        image_size, batch_size: As in `keras_spd.predict.load_predictor`.
        tile, overlap: For detectors, as in `keras_spd.evaluate`; `None` for no tiles and for 0.2.
        confidence_threshold, iou_threshold: For detectors; `None` for 0.001 and 0.65, the authors'.
        mirror: As in `score_classifier`.

    Returns:
        `keras_spd.metrics.COCOScores` or `keras_spd.metrics.ClassificationScores`.

    Raises:
        ValueError: If the model or the data cannot be read, or they have different classes.
    """
    for_detectors = {
        "confidence_threshold": confidence_threshold,
        "iou_threshold": iou_threshold,
        "tile": tile,
        "overlap": overlap,
    }
    given: dict[str, Any] = {
        key: value for key, value in for_detectors.items() if value is not None
    }
    predictor = load_predictor(weights, image_size, batch_size=batch_size, **given)
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    if isinstance(predictor, Classifier):
        if images is not None:
            raise ValueError(
                f"`images` (`--images`) is for detectors. Received: {weights}, a classifier."
            )
        try:
            labelled = load_classification(
                source,
                name=name,
                data_dir=data_dir,
                image_size=predictor.image_size,
                class_names=predictor.info.class_names if name is None else None,
                on_problem=on_problem,
                max_value=predictor.max_value,
                resize=predictor.info.preprocessing.resize,
            )
        except NoClassFoldersError as error:
            raise ValueError(f"{weights} is a classifier. {error}") from None
        return score_classifier(predictor, labelled, folder, mirror=mirror)
    if mirror:
        raise ValueError(
            f"`mirror` (`--mirror`) is for classifiers. Received: {weights}, a detector."
        )
    model = predictor.model
    boxed = load_detection(
        source,
        name=name,
        images=images,
        data_dir=data_dir,
        class_names=model.info.class_names,
        on_problem=on_problem,
        max_value=model.info.max_value,
    )
    options = {"confidence_threshold": 0.001, "iou_threshold": 0.65, **given}
    return score_detector(
        model, boxed, folder, image_size=image_size, batch_size=batch_size, **options
    )


def score_detector(
    model: Any, data: DetectionData, folder: str | os.PathLike, **options: Any
) -> metrics.COCOScores:
    """Scores a detector as `keras_spd.evaluate` does, and writes its detections and scores.

    Args:
        model: `Detector`.
        data: `DetectionData`.
        folder: Path of an existing folder. It gets `scores.json`, `detections.json` (COCO
            results), `precision_recall.png` and `confusion_matrix.png`.
        **options: Arguments of `keras_spd.predict.predict_coco`.

    Returns:
        `keras_spd.metrics.COCOScores`.

    Raises:
        ValueError: If the classes of model and data differ, or the data have no boxes.
    """
    folder = pathlib.Path(folder)
    require_boxes(data, "data to score on")
    shapes = batch_shapes(model, data, **options)
    in_tiles = options.get("tile") is not None
    _log.info(
        "%s%s, in batches of %s: %s (height x width).",
        plural(data.num_images, "image"),
        " and their tiles" if in_tiles else "",
        plural(len(shapes), "shape"),
        ", ".join(f"{height}x{width}" for height, width in shapes),
    )
    detections, scales = predict_coco(model, data, **options)
    truth = data.to_coco()
    write_json(folder / "detections.json", detections, indent=None)
    curves = metrics.precision_recall(truth, detections)
    metrics.draw_precision_recall(curves, folder / "precision_recall.png")
    matrix, names = metrics.confusion_matrix(truth, detections, **_OF_MATRIX)
    metrics.draw_confusion_matrix(matrix, names, folder / "confusion_matrix.png", **_OF_MATRIX)
    return _written(metrics.evaluate_coco(truth, detections, scales=scales), folder)


def score_classifier(
    classifier: Classifier,
    data: ClassificationData,
    folder: str | os.PathLike,
    *,
    mirror: bool = False,
) -> metrics.ClassificationScores:
    """Scores a classifier by its accuracy.

    Args:
        classifier: `Classifier`.
        data: `ClassificationData` with images of the classifier's size.
        folder: Path of an existing folder. It gets `scores.json` and `confusion_matrix.png`.
        mirror: Boolean, whether to also compute the accuracy with test-time mirroring: that of the
            mean of the probabilities of each image and of its mirror image.

    Returns:
        `keras_spd.metrics.ClassificationScores`.

    Raises:
        ValueError: If the classes of model and data differ.
    """
    folder, names = pathlib.Path(folder), classifier.info.class_names
    if names is not None and tuple(names) != data.class_names:
        raise ValueError(f"The model has the classes {names}, the data {data.class_names}.")
    labels, rows, mirrored = [], [], []
    for images, batch_labels in data.batches(classifier.batch_size):
        pixels = np.asarray(images, "uint8")
        labels.append(np.asarray(batch_labels))
        rows.append(classifier.probabilities(pixels))
        if rows[-1].shape[1] != len(data.class_names):
            raise ValueError(
                f"The model has {rows[-1].shape[1]} classes, the data {len(data.class_names)}: "
                f"{', '.join(data.class_names)}."
            )
        if mirror:
            mirrored.append((rows[-1] + classifier.probabilities(pixels[:, :, ::-1])) / 2)
    truth = np.concatenate(labels)
    ranked = np.argsort(-np.concatenate(rows), axis=1, kind="stable")[:, :5]
    scores = metrics.evaluate_classification(truth, ranked, data.class_names)
    if mirror:
        accuracy = float((np.concatenate(mirrored).argmax(axis=1) == truth).mean())
        scores = dataclasses.replace(scores, mirror_accuracy=accuracy)
    metrics.draw_confusion_matrix(scores.matrix, data.class_names, folder / "confusion_matrix.png")
    return _written(scores, folder)


def _written(scores: Any, folder: pathlib.Path) -> Any:
    write_json(folder / "scores.json", scores.to_json())
    return scores
