"""Anchors, the box sizes that predictions are relative to: checking and fitting them."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_spd.typing import Array

Anchors: TypeAlias = Mapping[str, Sequence[Sequence[float]]]
"""`{level: ((width, height), ...)}`, in pixels."""

# Width and height in pixels. P3 to P5: `models/space_depth_n.yaml` of LabSAINT/SPD-Conv (they are
# YOLOv5's, for COCO at 640 px). P2: YOLOv5's former four-level models.
DEFAULT_ANCHORS: Anchors = {
    "P2": ((5, 6), (8, 14), (15, 11)),
    "P3": ((10, 13), (16, 30), (33, 23)),
    "P4": ((30, 61), (62, 45), (59, 119)),
    "P5": ((116, 90), (156, 198), (373, 326)),
}
RATIO_THRESHOLD = 4.0  # `anchor_t`: sides match if they differ by a smaller factor
MIN_RECALL = 0.98  # fraction of boxes that match an anchor; YOLOv5 refits anchors below it


def level_stride(level: str) -> int:
    """Returns the stride of a pyramid level: 8 for `"P3"`."""
    return 2 ** int(level[1:])


def standardize_anchors(
    anchors: Any, levels: Sequence[str]
) -> dict[str, tuple[tuple[float, float], ...]]:
    """Checks anchors and returns them as `{level: ((width, height), ...)}`.

    Args:
        anchors: Mapping from each level to (width, height) pairs in pixels, the same number for
            each level; `None` for the default anchors.
        levels: Names of the levels, such as `("P3", "P4", "P5")`.

    Returns:
        `{level: ((width, height), ...)}`, floats in pixels.

    Raises:
        ValueError: If a level has no anchors, or they are not as described.
    """
    if anchors is None:
        anchors = {level: DEFAULT_ANCHORS[level] for level in levels if level in DEFAULT_ANCHORS}
    named = ", ".join(level for level in levels if isinstance(level, str)) or "the levels"
    problem = (
        f"`anchors` must map each of {named} to the same number of (width, height) pairs in "
        f"pixels. Received: anchors={anchors!r}."
    )
    if not hasattr(anchors, "items") or set(anchors) != set(levels):
        raise ValueError(problem)
    try:
        arrays = [np.asarray(anchors[level], "float64") for level in levels]
    except (TypeError, ValueError):
        raise ValueError(problem) from None
    for array in arrays:
        if (
            array.ndim != 2
            or array.shape[1] != 2
            or array.shape != arrays[0].shape
            or not (np.isfinite(array) & (array > 0)).all()
        ):
            raise ValueError(problem)
    return {
        level: tuple((float(width), float(height)) for width, height in array)
        for level, array in zip(levels, arrays, strict=True)
    }


def best_possible_recall(
    sides: Any, anchors: Any, ratio_threshold: float = RATIO_THRESHOLD
) -> float:
    """Returns the fraction of boxes that match at least one anchor.

    Args:
        sides: Array of shape `(boxes, 2)`, widths and heights in network pixels.
        anchors: `{level: ((width, height), ...)}` or array of shape `(anchors, 2)`, in network
            pixels.
        ratio_threshold: Number. A box matches an anchor if width and height both differ by a
            smaller factor.

    Returns:
        Number between 0 and 1.

    Raises:
        ValueError: If no box has a positive width and height.

    Example:

    >>> best_possible_recall([(12, 12), (90, 12)], [(10, 10)])
    0.5

    Source: `metric` in `YOLOv5-SPD/utils/autoanchor.py` of LabSAINT/SPD-Conv.
    """
    return float((_fit(_sides(sides), _flat(anchors)) > 1 / ratio_threshold).mean())


def fit_anchors(
    boxes: Any,
    *,
    bounding_box_format: str = "xyxy",
    levels: Sequence[str] = ("P3", "P4", "P5"),
    anchors_per_level: int = 3,
    ratio_threshold: float = RATIO_THRESHOLD,
    generations: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[tuple[float, float], ...]]:
    """Fits anchors to a dataset: k-means on the box sides, then random mutations.

    Args:
        boxes: Array of shape `(boxes, 4)`, in pixels of the network's input.
        bounding_box_format: Format of `boxes`; not a relative one.
        levels: Names of the levels, finest first. The finest gets the smallest anchors.
        anchors_per_level: Integer.
        ratio_threshold: As in `YOLOV5Loss`.
        generations: Integer, the number of mutations to try.
        seed: Integer.

    Returns:
        `{level: ((width, height), ...)}` in pixels, for the `anchors` argument of `YOLOV5SPD`.

    Raises:
        ValueError: If the format is relative, or there are fewer distinct boxes than anchors.

    Example:

    >>> anchors = keras_spd.detection.fit_anchors(boxes, bounding_box_format="xywh")
    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3, anchors=anchors)

    Source: fitness and mutation as in `YOLOv5-SPD/utils/autoanchor.py` of LabSAINT/SPD-Conv.
    """
    from keras_spd.boxes import check_box_format, convert_boxes

    if check_box_format(bounding_box_format).startswith("rel_"):
        raise ValueError(
            "`fit_anchors` needs boxes in pixels of the network's input. "
            f"Received: bounding_box_format={bounding_box_format!r}."
        )
    boxes = np.asarray(boxes, "float32").reshape(-1, 4)
    converted = convert_boxes(boxes, bounding_box_format, "xywh", (None, None))
    sides = _sides(keras.ops.convert_to_numpy(converted)[:, 2:])
    count = len(levels) * anchors_per_level
    if len(np.unique(sides, axis=0)) < count:
        raise ValueError(
            f"{count} anchors need at least {count} boxes of different sizes. "
            f"Received: {len(np.unique(sides, axis=0))}. Pass `anchors` explicitly."
        )
    rng = np.random.default_rng(seed)
    anchors = _k_means(sides, count, rng)

    def fitness(candidates: Array) -> float:
        best = _fit(sides, candidates)
        return (best * (best > 1 / ratio_threshold)).mean()

    score = fitness(anchors)
    for _ in range(generations):
        mutates = rng.random(anchors.shape) < 0.9
        factors = 1 + mutates * rng.random() * rng.normal(0, 0.1, anchors.shape)
        candidates = np.maximum(anchors * factors.clip(0.3, 3), 2.0)
        candidate_score = fitness(candidates)
        if candidate_score > score:
            anchors, score = candidates, candidate_score
    anchors = anchors[np.argsort(anchors.prod(axis=1))].round(1).reshape(len(levels), -1, 2)
    return standardize_anchors(dict(zip(levels, anchors, strict=True)), levels)


def _k_means(sides: Array, count: int, rng: np.random.Generator) -> Array:
    """Lloyd's algorithm on logarithms, because matching compares ratios."""
    points = np.log(sides)
    centres = np.unique(points, axis=0)
    centres = centres[rng.choice(len(centres), count, replace=False)]
    for _ in range(30):
        nearest = ((points[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
        for index in np.unique(nearest):
            centres[index] = points[nearest == index].mean(axis=0)
    return np.exp(centres)


def _sides(sides: Any) -> Array:
    sides = np.asarray(sides, "float64").reshape(-1, 2)
    count = len(sides)
    sides = sides[np.isfinite(sides).all(axis=1) & (sides > 0).all(axis=1)]
    if not len(sides):
        raise ValueError(
            "No box has a positive width and height, so there is nothing to fit or compare anchors "
            f"with. Received: {count} boxes."
        )
    return sides


def _flat(anchors: Any) -> Array:
    if hasattr(anchors, "values"):
        anchors = list(anchors.values())
    return np.asarray(anchors, "float64").reshape(-1, 2)


def _fit(sides: Array, anchors: Array) -> Array:
    """Returns, for each box, the side ratio (the worse side, the best anchor); 1 is perfect."""
    ratio = sides[:, None] / anchors
    return np.minimum(ratio, 1 / ratio).min(axis=2).max(axis=1)
