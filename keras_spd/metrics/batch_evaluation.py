"""Computes COCO's scores from batches of tensors, for data without an annotation file."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_spd.boxes import convert_boxes
from keras_spd.metrics.coco import COCOScores, evaluate_coco
from keras_spd.typing import Shape


def evaluate_batches(
    batches: Iterable[tuple[dict[str, Any], dict[str, Any], Shape]],
    num_classes: int,
    bounding_box_format: str = "xyxy",
) -> COCOScores:
    """Scores detection dictionaries against padded ground truth.

    Args:
        batches: Iterable of `(detections, ground truth, shape of the images)`: the dictionaries
            that `Detector.predict` returns and `fit` takes.
        num_classes: Integer.
        bounding_box_format: Format of the boxes in both.

    Returns:
        `COCOScores`, with sizes in pixels of the batches.
    """
    images: list[dict] = []
    annotations: list[dict] = []
    results: list[dict] = []
    for found, truth, shape in batches:
        size = (shape[1], shape[2])
        for part, entries in ((truth, annotations), (found, results)):
            boxes = convert_boxes(part["boxes"], bounding_box_format, "xywh", size)
            boxes, classes = map(keras.ops.convert_to_numpy, (boxes, part["classes"]))
            for row in range(len(classes)):
                has_area = (boxes[row, :, 2:] > 0).all(axis=1)
                for column in np.flatnonzero((classes[row] >= 0) & has_area):
                    entry = {
                        "image_id": len(images) + row,
                        "category_id": int(classes[row, column]),
                        "bbox": boxes[row, column].tolist(),
                    }
                    if part is found:
                        entry["score"] = float(found["confidence"][row, column])
                    entries.append(entry)
        images += [{"id": len(images) + row} for row in range(len(classes))]
    categories = [{"id": label, "name": str(label)} for label in range(num_classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return evaluate_coco(content, results)
