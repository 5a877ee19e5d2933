"""Scores of classifiers."""

import numpy as np
import pytest

from keras_spd.metrics import draw_confusion_matrix, evaluate_classification

NAMES = tuple("abcdefg")


@pytest.mark.slow
def test_scores_are_those_of_counting(rng, tmp_path):
    labels = rng.integers(0, 6, 200)  # no image of the last class
    ranked = np.argsort(rng.normal(0, 1, (200, 7)), axis=1)
    scores = evaluate_classification(labels, ranked, NAMES)
    assert scores.accuracy == pytest.approx((ranked[:, 0] == labels).mean())
    assert scores.top5 == pytest.approx(np.mean([y in r[:5] for y, r in zip(labels, ranked)]))  # noqa: B905
    for true in range(7):
        for predicted in range(7):
            count = ((labels == true) & (ranked[:, 0] == predicted)).sum()
            assert scores.matrix[true, predicted] == count
    assert set(scores.by_class) == set(NAMES[:6])
    assert scores.by_class["c"] == pytest.approx((ranked[labels == 2, 0] == 2).mean())
    assert scores.to_json()["images"] == 200
    assert f"Accuracy {scores.accuracy:.4f}" in scores.summary()
    draw_confusion_matrix(scores.matrix, NAMES, tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").stat().st_size > 1000


def test_few_classes_have_no_top5():
    scores = evaluate_classification([0, 1, 1], [[0, 1], [1, 0], [0, 1]], ("cat", "dog"))
    assert scores.accuracy == pytest.approx(2 / 3)
    assert scores.top5 is None


@pytest.mark.parametrize(
    ("labels", "ranked", "message"),
    [
        ([-1], [[0]], "`labels` must be integers from 0 to 6. Received: -1 to -1"),
        ([7], [[0]], "`labels` must be integers from 0 to 6. Received: 7 to 7"),
        ([0], [[-1]], "`ranked` must be integers from 0 to 6. Received: -1 to -1"),
        ([0], [[7]], "`ranked` must be integers from 0 to 6. Received: 7 to 7"),
        ([0.0], [[0]], "`labels` must be integers .* of type float64"),
        ([0, 1, 1], [[0]], r"must have the shape .*Received: \(3,\) and \(1, 1\)"),
        ([], [], r"at least one image. Received: \(0,\) and \(0,\)"),
    ],
)
def test_what_cannot_be_counted(labels, ranked, message):
    with pytest.raises(ValueError, match=message):
        evaluate_classification(labels, ranked, NAMES)
