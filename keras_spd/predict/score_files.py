"""Scores a trained model on a data set and writes files and pictures that explain the scores."""

import os
import pathlib
from typing import Any

import numpy as np

from keras_spd import metrics
from keras_spd.data.classification.dataset import ClassificationData
from keras_spd.data.detection.dataset import DetectionData, require_boxes
from keras_spd.files import write_json
from keras_spd.predict.classifier import Classifier
from keras_spd.predict.evaluation import predict_coco

_OF_MATRIX = {"confidence": 0.25, "iou": 0.45}


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
    detections, scales = predict_coco(model, data, **options)
    truth = data.to_coco()
    write_json(folder / "detections.json", detections, indent=None)
    curves = metrics.precision_recall(truth, detections)
    metrics.draw_precision_recall(curves, folder / "precision_recall.png")
    matrix, names = metrics.confusion_matrix(truth, detections, **_OF_MATRIX)
    metrics.draw_confusion_matrix(matrix, names, folder / "confusion_matrix.png", **_OF_MATRIX)
    return _written(metrics.evaluate_coco(truth, detections, scales=scales), folder)


def score_classifier(
    classifier: Classifier, data: ClassificationData, folder: str | os.PathLike
) -> Any:
    """Scores a classifier by its accuracy.

    Args:
        classifier: `Classifier`.
        data: `ClassificationData` with images of the classifier's size.
        folder: Path of an existing folder. It gets `scores.json` and `confusion_matrix.png`.

    Returns:
        `keras_spd.metrics.ClassificationScores`.

    Raises:
        ValueError: If the classes of model and data differ.
    """
    folder, names = pathlib.Path(folder), classifier.info.class_names
    if names is not None and tuple(names) != data.class_names:
        raise ValueError(f"The model has the classes {names}, the data {data.class_names}.")
    labels, ranked = [], []
    for images, batch_labels in data.batches(classifier.batch_size):
        pixels = [np.asarray(image, "uint8") for image in images]
        labels.append(np.asarray(batch_labels))
        ranked += [found.classes for found in classifier(pixels)]
    scores = metrics.evaluate_classification(np.concatenate(labels), ranked, data.class_names)
    metrics.draw_confusion_matrix(scores.matrix, data.class_names, folder / "confusion_matrix.png")
    return _written(scores, folder)


def _written(scores: Any, folder: pathlib.Path) -> Any:
    write_json(folder / "scores.json", scores.to_json())
    return scores
