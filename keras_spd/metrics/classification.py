"""Scores a classifier."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True, eq=False)
class ClassificationScores:
    """The accuracy of a classifier.

    Args:
        class_names: Tuple of strings.
        matrix: Integer array of shape `(classes, classes)`, rows for the true and columns for the
            predicted class.
        top5: Fraction of images whose class is among the five most probable; `None` with five
            classes or fewer, or if fewer than five were ranked.
        mirror_accuracy: Accuracy with test-time mirroring: of the mean of the probabilities of each
            image and of its mirror image. `None` if it was not computed.
    """

    class_names: tuple[str, ...]
    matrix: np.ndarray
    top5: float | None
    mirror_accuracy: float | None = None

    @property
    def accuracy(self) -> float:
        """The fraction of images whose class is the most probable one."""
        return float(np.trace(self.matrix) / self.matrix.sum())

    @property
    def by_class(self) -> dict[str, float]:
        """`{class name: fraction of its images that are recognised}`, for classes with images."""
        counts = self.matrix.sum(axis=1)
        return {
            name: float(self.matrix[index, index] / counts[index])
            for index, name in enumerate(self.class_names)
            if counts[index]
        }

    def to_json(self) -> dict[str, Any]:
        """Returns the scores as a dictionary that JSON can hold."""
        return {
            "images": int(self.matrix.sum()),
            "accuracy": self.accuracy,
            "top5_accuracy": self.top5,
            "mirror_accuracy": self.mirror_accuracy,
            "accuracy_by_class": self.by_class,
            "confusion_matrix": self.matrix.tolist(),
            "class_names": list(self.class_names),
        }

    def summary(self) -> str:
        """Returns the scores as lines of text."""
        top5 = "" if self.top5 is None else f", top 5 {self.top5:.4f}"
        lines = [f"Accuracy {self.accuracy:.4f}{top5} on {self.matrix.sum()} images"]
        if self.mirror_accuracy is not None:
            lines.append(f"  with mirror images averaged in: {self.mirror_accuracy:.4f}")
        width = max(map(len, self.by_class))
        for name, accuracy in self.by_class.items():
            count = self.matrix[self.class_names.index(name)].sum()
            lines.append(f"  {name:{width}}  {accuracy:.4f} of {count}")
        return "\n".join(lines)


def evaluate_classification(
    labels: npt.ArrayLike, ranked: npt.ArrayLike, class_names: Sequence[str]
) -> ClassificationScores:
    """Scores predicted classes.

    Args:
        labels: Integer array of shape `(images,)`, the true classes.
        ranked: Integer array of shape `(images, ranks)`, the most probable classes, best first.
        class_names: One name for each class.

    Returns:
        `ClassificationScores`.

    Raises:
        ValueError: If a shape or a class is not as described.

    Example:

    >>> evaluate_classification([0, 1, 1], [[0], [1], [0]], ("cat", "dog")).accuracy
    0.6666666666666666
    """
    labels, ranked = np.asarray(labels), np.asarray(ranked)
    if labels.ndim != 1 or ranked.ndim != 2 or len(labels) != len(ranked) or not ranked.size:
        raise ValueError(
            "`labels` must have the shape (images,) and `ranked` (images, ranks), with at least "
            f"one image. Received: {labels.shape} and {ranked.shape}."
        )
    for name, classes in {"labels": labels, "ranked": ranked}.items():
        whole = np.issubdtype(classes.dtype, np.integer)
        if not whole or classes.min() < 0 or classes.max() >= len(class_names):
            raise ValueError(
                f"`{name}` must be integers from 0 to {len(class_names) - 1}. Received: "
                f"{classes.min()} to {classes.max()}, of type {classes.dtype}."
            )
    matrix = np.zeros((len(class_names),) * 2, int)
    np.add.at(matrix, (labels, ranked[:, 0]), 1)
    top5 = None
    if len(class_names) > 5 and ranked.shape[1] >= 5:
        top5 = float((ranked[:, :5] == labels[:, None]).any(axis=1).mean())
    return ClassificationScores(tuple(class_names), matrix, top5)
