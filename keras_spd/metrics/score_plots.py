"""Draws precision-recall curves and confusion matrices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_spd.files import whole_file
from keras_spd.images.fonts import drawable, find_font
from keras_spd.typing import Array, Path


def draw_precision_recall(
    curves: Mapping[str, tuple[Array, Array, Array]], path: Path, *, iou: float = 0.5
) -> None:
    """Draws precision over recall, a line for each class and a thick one for their mean.

    Args:
        curves: Dictionary returned by `precision_recall`.
        path: Path of the PNG file to write.
        iou: The IoU the curves were computed at, for the title.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> draw_precision_recall(curves, "precision_recall.png")
    """
    figure = _figure((7, 5))
    axes = figure.add_subplot()
    named = len(curves) <= 12
    for name, (recall, precision, _) in curves.items():
        label = f"{_plain(drawable(name))}  {precision.mean():.3f}" if named else None
        axes.plot(recall, precision, linewidth=1, alpha=0.8 if named else 0.3, label=label)
    if curves:
        recall = next(iter(curves.values()))[0]
        mean = np.mean([precision for _, precision, _ in curves.values()], axis=0)
        axes.plot(recall, mean, color="black", linewidth=3, label=f"mean  {mean.mean():.3f}")
        legend = axes.legend(
            title=f"AP at IoU {iou:.2f}", loc="center left", bbox_to_anchor=(1.01, 0.5)
        )
        for text in legend.get_texts():
            text.set_fontproperties(_font(text.get_text(), text.get_size()))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.grid(alpha=0.3)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=120, bbox_inches="tight")


def draw_confusion_matrix(
    matrix: Array,
    names: Sequence[str],
    path: Path,
    *,
    confidence: float | None = None,
    iou: float | None = None,
) -> None:
    """Draws a confusion matrix: how much of each true class was predicted as each class.

    The last column of a detector's matrix, "background", has the objects that were missed.

    Args:
        matrix: Array of shape `(classes + 1, classes + 1)` from `confusion_matrix`, or
            `(classes, classes)` for a classifier.
        names: The class names.
        path: Path of the PNG file to write.
        confidence, iou: The arguments of `confusion_matrix`, for the title.

    Raises:
        ImportError: If matplotlib is not installed.

    Example:

    >>> draw_confusion_matrix(matrix, names, "confusion_matrix.png")
    """
    names = [_plain(drawable(name, index)) for index, name in enumerate(names)]
    names = [*names, "background"][: len(matrix)]
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = np.clip(1.5 + 0.55 * len(names), 4.5, 16)
    figure = _figure((side + 1, side))
    axes = figure.add_subplot()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, fraction=0.045, pad=0.03)
    size = 9 if len(names) <= 20 else 6
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        tick.set_fontproperties(_font(tick.get_text(), size))
    axes.set(xlabel="predicted class", ylabel="true class")
    title = "Fraction of each true class, and counts"
    given = [] if confidence is None else [f"confidence >= {confidence:g}"]
    given += [] if iou is None else [f"matched at IoU >= {iou:g}"]
    title = "\n".join(filter(None, (title, ", ".join(given))))
    axes.set_title(title, fontsize=10)
    if len(names) <= 20:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if fractions[row, column] > 0.5 else "black"
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    with whole_file(path) as unfinished:
        figure.savefig(unfinished, dpi=120, bbox_inches="tight")


def _plain(name: str) -> str:
    """Returns a name that matplotlib shows as it is: `$` is no formula, and `_` hides no label."""
    shown = name.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _font(text: str, size: float) -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=find_font(text), size=size)


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"Plots of scores need `pip install matplotlib` ({error}).") from error
    return Figure(figsize=size)
