"""Fitting anchors to a dataset."""

import numpy as np
import pytest

from keras_spd.detection import YOLOV5Loss, best_possible_recall, fit_anchors
from keras_spd.detection.anchors import standardize_anchors


def test_fitted_anchors_fit_better(rng):
    sides = np.concatenate([rng.normal((3, 70), 0.3, (200, 2)), rng.normal((90, 6), 3, (200, 2))])
    boxes = np.concatenate([np.zeros_like(sides), sides], axis=1)
    default = best_possible_recall(sides, standardize_anchors(None, ("P3", "P4", "P5")))
    anchors = fit_anchors(boxes, bounding_box_format="xywh", generations=100)
    assert default < 0.6 and best_possible_recall(sides, anchors) > 0.98
    areas = [width * height for level in anchors.values() for width, height in level]
    assert list(anchors) == ["P3", "P4", "P5"] and areas == sorted(areas)
    assert anchors == fit_anchors(boxes, bounding_box_format="xywh", generations=100)


def test_mutations_improve_on_k_means(rng):
    sides = rng.uniform(3, 90, (300, 2))
    boxes = np.concatenate([np.zeros_like(sides), sides], axis=1)

    def fitness(generations):
        """The mean over boxes of the best anchor's ratio, the worse of width and height."""
        fitted = fit_anchors(boxes, bounding_box_format="xywh", generations=generations)
        anchors = np.concatenate([*fitted.values()])
        ratios = np.maximum(sides[:, None] / anchors, anchors / sides[:, None]).max(axis=-1)
        return (1 / ratios.min(axis=-1)).mean()

    assert fitness(500) > fitness(0) + 0.01


def test_other_numbers_of_anchors_and_levels(rng):
    boxes = np.concatenate([np.zeros((60, 2)), rng.uniform(3, 90, (60, 2))], axis=1)
    anchors = fit_anchors(boxes, levels=("P2", "P3"), anchors_per_level=2, generations=10)
    assert {level: len(sides) for level, sides in anchors.items()} == {"P2": 2, "P3": 2}


def test_recall_is_a_share_of_boxes():
    assert best_possible_recall([[10, 10], [10, 100]], [[12, 12]]) == 0.5


@pytest.mark.parametrize(
    ("boxes", "message"), [(np.ones((5, 4)), "No box has"), ([[0, 0, 3, 3]], "9 anchors need")]
)
def test_too_few_boxes(boxes, message):
    with pytest.raises(ValueError, match=message):
        fit_anchors(boxes)


def test_there_are_no_anchors_of_another_level():
    with pytest.raises(ValueError, match="must map each of P3, P6"):
        standardize_anchors(None, ("P3", "P6"))


@pytest.mark.parametrize(
    "anchors",
    [{"P3": [[1, 2]]}, {"P3": [[1, 2]], "P4": [[1]]}, {"P3": [[1, 2]], "P4": [[0, 2]]}, 5],
)
def test_bad_anchors(anchors):
    with pytest.raises(ValueError, match="must map each of P3, P4"):
        standardize_anchors(anchors, ("P3", "P4"))


def test_anchors_of_a_list():
    with pytest.raises(ValueError, match=r"each of the levels to .*Received: anchors=\[\[10"):
        YOLOV5Loss(3, anchors=[[10, 13], [16, 30]])
