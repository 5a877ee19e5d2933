"""Curves and the confusion matrix."""

import matplotlib.axes
import numpy as np
import pytest
from matplotlib.figure import Figure
from metrics.test_coco import BOX, found, make
from PIL import Image

from keras_spd import metrics


def test_precision_recall():
    truth = make([BOX, (1, 0, 10, 10, 20, 20)])
    curves = metrics.precision_recall(truth, found(BOX))
    recall, precision, scores = curves["cat"]
    assert list(curves) == ["cat"] and recall[50] == 0.5
    np.testing.assert_allclose(precision, recall <= 0.5)
    assert scores[0] == 0.9
    with pytest.raises(ValueError, match="`iou` must be one of"):
        metrics.precision_recall(truth, [], iou=0.52)


def test_confusion_matrix():
    truth = make([BOX, (0, 1, 50, 50, 20, 20), (1, 0, 0, 0, 9, 9), (1, 0, 100, 100, 50, 50)])
    truth["annotations"][3]["iscrowd"] = 1
    results = found(BOX, (0, 0, 51, 51, 20, 20), (0, 1, 200, 200, 9, 9), (1, 0, 110, 110, 9, 9))
    results += found((1, 0, 0, 0, 9, 9), score=0.1)
    matrix, names = metrics.confusion_matrix(truth, results)
    assert names == ("cat", "dog")
    assert matrix.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_the_larger_overlap_wins():
    truth = make([(0, 0, 0, 0, 20, 20), (0, 1, 4, 0, 20, 20)])
    matrix, _ = metrics.confusion_matrix(truth, found((0, 1, 3, 0, 20, 20)))
    assert matrix.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 40])
def test_pictures(classes, tmp_path, rng):
    recall = np.linspace(0, 1, 101)
    curves = {f"class {i}": (recall, rng.random() * (1 - recall), recall) for i in range(classes)}
    metrics.draw_precision_recall(curves, tmp_path / "curves.png")
    matrix = rng.integers(0, 50, (classes + 1, classes + 1))
    metrics.draw_confusion_matrix(matrix, list(curves), tmp_path / "matrix.png")
    for name in ("curves.png", "matrix.png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300 and len(image.convert("RGB").getcolors(1 << 20)) > 20


def test_what_is_drawn(tmp_path, monkeypatch):
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **b: figures.append(figure) or save(figure, *a, **b)
    )
    metrics.draw_confusion_matrix(np.array([[8, 2], [0, 5]]), ("a", "b"), tmp_path / "a.png")
    recall = np.linspace(0, 1, 101)
    metrics.draw_precision_recall({"a": (recall, 1 - recall**2, recall)}, tmp_path / "b.png")
    cells, curves = (figure.axes[0] for figure in figures)
    np.testing.assert_allclose(cells.images[0].get_array(), [[0.8, 0.2], [0, 1]])
    counts = {text.get_position(): text.get_text() for text in cells.texts}
    assert counts == {(0, 0): "8", (1, 0): "2", (1, 1): "5"}  # x, y
    assert (cells.get_xlabel(), cells.get_ylabel()) == ("predicted class", "true class")
    assert (curves.get_xlabel(), curves.get_ylabel()) == ("recall", "precision")
    for line in curves.lines:
        np.testing.assert_allclose(line.get_xydata(), np.stack([recall, 1 - recall**2], 1))


@pytest.mark.slow
def test_names_in_other_scripts_and_thresholds(tmp_path, recwarn, monkeypatch):
    """Matplotlib warns about letters that a font lacks."""
    monkeypatch.setattr("keras_spd.images.fonts._system_fonts", lambda: [])
    titles = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda _, text, **__: titles.append(text))
    names = ["\u00d6ffnung", "\u77ed\u8def"]
    curve = np.linspace(0, 1, 101)
    curves = {name: (curve, 1 - curve, curve) for name in names}
    metrics.draw_precision_recall(curves, tmp_path / "curves.png")
    matrix = np.ones((3, 3), int)
    metrics.draw_confusion_matrix(matrix, names, tmp_path / "a.png", confidence=0.25, iou=0.45)
    assert not [warning for warning in recwarn if "missing" in str(warning.message)]
    assert "confidence >= 0.25" in titles[-1] and "IoU >= 0.45" in titles[-1]
    same = [names[0], "class 1"]  # no font has the second name
    metrics.draw_confusion_matrix(matrix, same, tmp_path / "b.png", confidence=0.25, iou=0.45)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    metrics.draw_confusion_matrix(matrix, ["first", "class 1"], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    assert "confidence" not in titles[-1]
    metrics.draw_confusion_matrix(matrix, names, tmp_path / "c.png", confidence=0.25)
    assert titles[-1].endswith("\nconfidence >= 0.25")


def test_names_with_signs_that_matplotlib_interprets(tmp_path, monkeypatch):
    """`$` starts a formula, and a label with `_` at its start is left out of the legend."""
    labels = []
    legend = "matplotlib.axes.Axes.legend"
    draw = matplotlib.axes.Axes.legend
    monkeypatch.setattr(
        legend, lambda *args, **options: labels.append(draw(*args, **options)) or labels[-1]
    )
    curve = np.linspace(0, 1, 101)
    names = ["_dent", "$5 and $x_{"]
    curves = {name: (curve, 1 - curve, curve) for name in names}
    metrics.draw_precision_recall(curves, tmp_path / "curves.png")
    metrics.draw_confusion_matrix(np.ones((3, 3), int), names, tmp_path / "matrix.png")
    assert len(labels[0].get_texts()) == 3
