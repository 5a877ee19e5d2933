"""Computes precision-recall curves and confusion matrices."""

from typing import Any

import numpy as np

from keras_spd.boxes import area, intersection, intersection_over_union
from keras_spd.metrics.coco import run_cocoeval
from keras_spd.metrics.read_coco import read_coco_pair
from keras_spd.typing import Array, Path


def precision_recall(
    ground_truth: Path | dict[str, Any], detections: Path | list[dict[str, Any]], iou: float = 0.5
) -> dict[str, tuple[Array, Array, Array]]:
    """Computes precision at 101 recall values for each class, interpolated as in COCO.

    Args:
        ground_truth, detections: As in `evaluate_coco`.
        iou: Smallest IoU of a correct detection, one of 0.50, 0.55, ..., 0.95.

    Returns:
        Dictionary from class names to three arrays of length 101: recall, precision, and the
        confidence at which it is reached. Classes without ground truth are skipped.

    Raises:
        ValueError: If `iou` is not one of these, or as in `evaluate_coco`.

    Example:

    >>> curves = precision_recall("instances_val.json", "detections.json")
    >>> recall, precision, confidence = curves["cat"]
    """
    thresholds = np.linspace(0.5, 0.95, 10)
    matching = np.flatnonzero(np.isclose(thresholds, iou))
    if not len(matching):
        raise ValueError(f"`iou` must be one of 0.50, 0.55, ..., 0.95. Received: iou={iou!r}.")
    truth, results = read_coco_pair(ground_truth, detections)
    evaluator = run_cocoeval(truth, results)
    recall = np.array(evaluator.params.recThrs)
    curves = {}
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    for index, category in enumerate(categories):
        precision = evaluator.eval["precision"][matching[0], :, index, 0, -1]
        if (precision > -1).any():
            scores = evaluator.eval["scores"][matching[0], :, index, 0, -1]
            curves[str(category["name"])] = (recall, precision, scores)
    return curves


def confusion_matrix(
    ground_truth: Path | dict[str, Any],
    detections: Path | list[dict[str, Any]],
    *,
    confidence: float = 0.25,
    iou: float = 0.45,
) -> tuple[Array, tuple[str, ...]]:
    """Counts how often each class is detected as each class.

    Boxes are matched one to one regardless of class, highest IoU first. Crowd regions, and
    detections mostly inside one, are ignored.

    Args:
        ground_truth, detections: As in `evaluate_coco`.
        confidence: Smallest confidence of a detection.
        iou: Smallest IoU of a match.

    Returns:
        Integer array of shape `(classes + 1, classes + 1)`, rows for the true and columns for the
        detected class, the last of each for background; and the class names.

    Raises:
        ValueError: As in `evaluate_coco`.

    Example:

    >>> matrix, names = confusion_matrix("instances_val.json", "detections.json")
    """
    truth, results = read_coco_pair(ground_truth, detections)
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    number = {category["id"]: index for index, category in enumerate(categories)}
    background = len(categories)
    matrix = np.zeros((background + 1, background + 1), int)

    by_image: dict = {image["id"]: ([], [], []) for image in truth["images"]}
    for annotation in truth["annotations"]:
        by_image[annotation["image_id"]][2 if annotation["iscrowd"] else 0].append(annotation)
    for result in results:
        if result["score"] >= confidence:
            by_image[result["image_id"]][1].append(result)

    for objects, found, crowds in by_image.values():
        overlaps = _overlaps(objects, found)
        free_objects, free_found = set(range(len(objects))), set(range(len(found)))
        order = np.dstack(np.unravel_index(np.argsort(-overlaps, axis=None), overlaps.shape))[0]
        for row, column in order:
            if overlaps[row, column] < iou:
                break
            if row in free_objects and column in free_found:
                free_objects.remove(row)
                free_found.remove(column)
                labels = number[objects[row]["category_id"]], number[found[column]["category_id"]]
                matrix[labels] += 1
        for row in free_objects:
            matrix[number[objects[row]["category_id"]], background] += 1
        covered = _overlaps(crowds, found, of_second=True).max(axis=0, initial=0)
        for column in free_found:
            if covered[column] < 0.5:
                matrix[background, number[found[column]["category_id"]]] += 1
    return matrix, tuple(str(category["name"]) for category in categories)


def _overlaps(
    first: list[dict[str, Any]], second: list[dict[str, Any]], *, of_second: bool = False
) -> Array:
    """IoU of all pairs of boxes; with `of_second`, the intersection over the second's area."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    boxes_1, boxes_2 = (np.array([e["bbox"] for e in part], float) for part in (first, second))
    boxes_1[:, 2:] += boxes_1[:, :2]  # xywh to xyxy
    boxes_2[:, 2:] += boxes_2[:, :2]
    boxes_1, boxes_2 = boxes_1[:, None], boxes_2[None]
    if of_second:
        return intersection(boxes_1, boxes_2, np) / np.maximum(area(boxes_2, np), 1e-9)
    return intersection_over_union(boxes_1, boxes_2, np)
