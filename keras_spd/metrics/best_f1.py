"""Finds the confidence with the best F1 score, the threshold to deploy a detector with."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_spd.typing import Array

_NO_OBJECTS = {"F1": -1.0, "confidence": -1.0, "precision": -1.0, "recall": -1.0}


def best_f1(evaluator: Any) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Finds the confidence with the best F1 score at IoU 0.5: of all classes, and of each class.

    F1 is `2 * precision * recall / (precision + recall)`. Detections and objects of all classes are
    counted together, so frequent classes weigh more.

    Args:
        evaluator: `COCOeval` after `evaluate`, with IoU 0.5 and all sizes first.

    Returns:
        `{"F1", "confidence", "precision", "recall"}` of all classes, and a list of the same for
        each class in the order of their ids. The confidence is halfway between the last detection
        that counts and the next one. All four are -1 if there are no objects; the confidence is -1
        if no detection is correct.
    """
    parameters = evaluator.params
    step = len(parameters.areaRng) * len(parameters.imgIds)
    classes = []
    for number in range(len(parameters.catIds)):
        start = number * step
        found = evaluator.evalImgs[start : start + len(parameters.imgIds)]  # of all sizes
        classes.append(_join([_counts(image) for image in found if image is not None]))
    return _best(*_join(classes)), [_best(*counts) for counts in classes]


def _counts(image: dict[str, Any]) -> tuple[Array, Array, int]:
    """Returns confidence and correctness of detections, and the number of objects, of an image."""
    counted = ~np.asarray(image["dtIgnore"][0], bool)
    correct = np.asarray(image["dtMatches"][0]) > 0
    objects = int((~np.asarray(image["gtIgnore"], bool)).sum())
    return np.asarray(image["dtScores"], float)[counted], correct[counted], objects


def _join(parts: Sequence[tuple[Array, Array, int]]) -> tuple[Array, Array, int]:
    scores = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0)
    correct = np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, bool)
    return scores, correct, sum(part[2] for part in parts)


def _best(scores: Array, correct: Array, objects: int) -> dict[str, float]:
    if not objects:
        return dict(_NO_OBJECTS)
    if not correct.any():
        return {"F1": 0.0, "confidence": -1.0, "precision": 0.0, "recall": 0.0}
    order = np.argsort(-scores, kind="stable")
    scores, true = scores[order], np.cumsum(correct[order])
    next_score = np.append(scores[1:], 0.0)
    f1 = 2 * true / (np.arange(1, len(scores) + 1) + objects)
    f1[:-1][scores[:-1] == scores[1:]] = 0  # a threshold cannot separate equal scores
    best = int(f1.argmax())
    return {
        "F1": float(f1[best]),
        "confidence": float((scores[best] + next_score[best]) / 2),
        "precision": float(true[best] / (best + 1)),
        "recall": float(true[best] / objects),
    }
