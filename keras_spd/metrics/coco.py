"""Computes COCO's scores for detections with pycocotools."""

import collections
import contextlib
import dataclasses
import io
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_spd.metrics.best_f1 import best_f1
from keras_spd.metrics.read_coco import read_coco_pair
from keras_spd.typing import Array, Path

_log = logging.getLogger(__name__)
_DETECTIONS = 100  # the most per image and class that COCO's scores count
_METRICS = (
    ("AP", "Average precision, IoU 0.50:0.95, all sizes"),
    ("AP50", "Average precision, IoU 0.50,      all sizes"),
    ("AP75", "Average precision, IoU 0.75,      all sizes"),
    ("AP_small", "Average precision, IoU 0.50:0.95, small (area < 32x32)"),
    ("AP_medium", "Average precision, IoU 0.50:0.95, medium (area to 96x96)"),
    ("AP_large", "Average precision, IoU 0.50:0.95, large"),
    ("AR1", "Average recall,    IoU 0.50:0.95, 1 detection per image"),
    ("AR10", "Average recall,    IoU 0.50:0.95, 10 detections"),
    ("AR100", "Average recall,    IoU 0.50:0.95, 100 detections"),
    ("AR_small", "Average recall,    IoU 0.50:0.95, small"),
    ("AR_medium", "Average recall,    IoU 0.50:0.95, medium"),
    ("AR_large", "Average recall,    IoU 0.50:0.95, large"),
)
_OPERATING = {"F1": "best F1", "confidence": "at", "precision": "prec.", "recall": "recall"}
SIDES = {"<8": (0, 8), "8-16": (8, 16), "16-32": (16, 32), ">=32": (32, 1e5)}


@dataclasses.dataclass(frozen=True)
class COCOScores:
    """COCO's scores of detections; -1 where there is no ground truth.

    Args:
        metrics: COCO's twelve numbers: AP, AP50, AP75, AP_small, AP_medium, AP_large, AR1, AR10,
            AR100, AR_small, AR_medium, AR_large. Sizes are areas in original pixels.
        per_class: Class name to `{"AP", "AP50", "boxes"}`, and the four numbers of `best_f1` for
            this class.
        by_side: Range of box sides, the square root of width times height in network pixels, to
            `{"AP", "AP50", "boxes"}`.
        best_f1: The operating point with the best F1 score at IoU 0.5, over the detections of all
            classes: `{"F1", "confidence", "precision", "recall"}`. `confidence` is the threshold to
            deploy with, as `confidence_threshold` of a `Predictor`. It is -1 if no detection is
            correct.
    """

    metrics: dict[str, float]
    per_class: dict[str, dict[str, float]]
    by_side: dict[str, dict[str, float]]
    best_f1: dict[str, float] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        scores = ", ".join(f"{name}={_as_text(self.metrics[name])}" for name in ("AP", "AP50"))
        return f"<COCOScores: {scores}; `print(scores.summary())` for all>"

    def to_json(self) -> dict[str, Any]:
        """Returns the scores as a dictionary."""
        return dataclasses.asdict(self)

    def summary(self) -> str:
        """Returns the scores as a table of several lines, with `-` where there is no box."""
        lines = [f"{label:<58} {_as_text(self.metrics[name]):>6}" for name, label in _METRICS]
        if self.best_f1:
            best = {name: _as_text(value) for name, value in self.best_f1.items()}
            lines.append(f"{'Best F1,           IoU 0.50, all sizes':<58} {best['F1']:>6}")
            lines.append(
                f"  at confidence {best['confidence']}: precision {best['precision']}, recall "
                f"{best['recall']}"
            )
        lines += _table("box side, px", self.by_side, {})
        lines += _table("class", self.per_class, _OPERATING if self.best_f1 else {})
        return "\n".join(lines)


def _table(
    title: str, rows: Mapping[str, Mapping[str, float]], more: Mapping[str, str]
) -> list[str]:
    """Returns the lines of a table; `more` is `{key: header}` of columns after AP and AP50."""
    headers = ["boxes", "AP", "AP50", *more.values()]
    table = [(title, headers)]
    for name, row in rows.items():
        scores = [_as_text(row[key]) for key in ("AP", "AP50", *more)]
        table.append((name, [str(row["boxes"]), *scores]))
    return ["", *(f"{name:<24} " + " ".join(f"{x:>7}" for x in cells) for name, cells in table)]


def _as_text(score: float) -> str:
    return "-" if score < 0 else f"{score:.3f}"


def evaluate_coco(
    ground_truth: Path | dict[str, Any],
    detections: Path | list[dict[str, Any]],
    *,
    scales: Mapping[Any, float] | None = None,
    max_detections: Sequence[int] | None = None,
) -> COCOScores:
    """Scores detections with pycocotools.

    All images and classes of the ground truth count, including images without detections.

    Args:
        ground_truth: COCO annotations, the path of a JSON file or its content. Ids, areas and
            crowd regions are used as given; missing areas are computed from the boxes.
        detections: COCO results, a list of `{"image_id", "category_id", "bbox", "score"}` with
            xywh boxes, or the path of such a JSON file.
        scales: Dictionary from image ids to network pixels per original pixel, for the scores by
            box side; `None` if they are all 1.
        max_detections: Three integers in ascending order, the largest number of detections per
            image and class that AR1, AR10 and AR100 count (the names do not change). AP uses the
            last one. Defaults to COCO's 1, 10 and 100. If an image has more than 100 boxes of a
            class, the last one is their number, so that AP can reach 1.

    Returns:
        `COCOScores`.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> scores = keras_spd.metrics.evaluate_coco("instances_val.json", "detections.json")
    >>> scores.metrics["AP_small"]
    """
    truth, results = read_coco_pair(ground_truth, detections)
    missing = set() if scales is None else {image["id"] for image in truth["images"]} - set(scales)
    if missing:
        raise ValueError(
            f"`scales` must have a number for each image. {len(missing)} are missing, such as "
            f"{min(missing, key=str)!r}."
        )
    if max_detections is None:
        max_detections = _find_max_detections(truth)
    _check_max_detections(max_detections)
    evaluator = run_cocoeval(truth, results, max_detections)
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    best, best_by_class = best_f1(evaluator)
    per_class = _per_class(evaluator, truth, categories)
    for row, best_of_class in zip(per_class.values(), best_by_class, strict=True):
        row |= best_of_class
    return COCOScores(
        metrics=_twelve_numbers(evaluator),
        per_class=per_class,
        by_side=_by_side(truth, results, scales, max_detections),
        best_f1=best,
    )


def _find_max_detections(truth: dict[str, Any]) -> tuple[int, int, int]:
    """Returns COCO's limits, with a higher one for AP if an image has more boxes of a class."""
    boxes = collections.Counter(
        (annotation["image_id"], annotation["category_id"])
        for annotation in truth["annotations"]
        if not annotation["iscrowd"]
    )
    most = max(boxes.values(), default=0)
    if most > _DETECTIONS:
        _log.info(
            "An image has %d boxes of a class: AP counts as many detections per image and class, "
            "instead of COCO's %d.",
            most,
            _DETECTIONS,
        )
    return 1, 10, max(most, _DETECTIONS)


def _check_max_detections(max_detections: Any) -> None:
    numbers = list(max_detections) if isinstance(max_detections, (list, tuple)) else []
    integers = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in numbers)
    if len(numbers) != 3 or not integers or sorted(numbers) != numbers:
        raise ValueError(
            "`max_detections` must be three positive integers in ascending order, such as "
            "(1, 10, 100). "
            f"Received: max_detections={max_detections!r}."
        )


def run_cocoeval(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    max_detections: Sequence[int] | None = None,
    areas: Mapping[str, tuple[float, float]] | None = None,
    iou_type: str = "bbox",
) -> Any:
    """Runs pycocotools without its printed output.

    Args:
        truth, results: As returned by `read_coco_pair`.
        max_detections: As in `evaluate_coco`.
        areas: `{name: (smallest, largest)}` box areas, instead of COCO's.
        iou_type: `"bbox"`, or `"segm"` for masks.

    Returns:
        `COCOeval` after `accumulate`, and after `summarize` if `areas` is `None`.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ImportError(f"COCO's scores need `pip install pycocotools` ({error}).") from error
    if any(isinstance(image["id"], str) for image in truth["images"]):
        truth, results = _with_numbers(truth, results)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = truth
        ground_truth.createIndex()
        if results:
            found = ground_truth.loadRes([dict(result) for result in results])  # it adds keys
        else:
            found = COCO()
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        evaluator = COCOeval(ground_truth, found, iou_type)
        evaluator.params.maxDets = list(max_detections or _find_max_detections(truth))
        if areas is not None:
            evaluator.params.areaRng = [list(bounds) for bounds in areas.values()]
            evaluator.params.areaRngLbl = list(areas)
        evaluator.evaluate()
        evaluator.accumulate()
        if areas is None:
            evaluator.summarize()
    return evaluator


def _with_numbers(
    truth: dict[str, Any], results: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns both with numbers as image ids: pycocotools cannot sort names among numbers."""
    numbers = {image["id"]: number for number, image in enumerate(truth["images"])}

    def numbered(entries: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
        return [entry | {key: numbers[entry[key]]} for entry in entries]

    images, annotations = truth["images"], truth["annotations"]
    truth = truth | {"images": numbered(images, "id")}
    truth = truth | {"annotations": numbered(annotations, "image_id")}
    return truth, numbered(results, "image_id")


def _average(precision: Array) -> float:
    """Mean of pycocotools' precisions, which are -1 where there is no ground truth."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else -1.0


def _twelve_numbers(evaluator: Any) -> dict[str, float]:
    """Returns COCO's scores for `max_detections`; pycocotools always computes AP for 100."""
    precision = evaluator.eval["precision"]  # (IoU, recall, class, area, detections)
    recall = evaluator.eval["recall"]  # (IoU, class, area, detections)
    best, sizes = precision[:, :, :, 0, -1], range(1, 4)
    values = [_average(best), _average(best[0]), _average(best[5])]
    values += [_average(precision[:, :, :, size, -1]) for size in sizes]
    values += [_average(recall[:, :, 0, count]) for count in range(3)]
    values += [_average(recall[:, :, size, -1]) for size in sizes]
    return {name: value for (name, _), value in zip(_METRICS, values, strict=True)}


def _per_class(
    evaluator: Any, truth: dict[str, Any], categories: list[dict[str, Any]]
) -> dict[str, dict[str, float]]:
    precision = evaluator.eval["precision"]  # (IoU, recall, class, area, detections)
    scores = {}
    for index, category in enumerate(categories):
        boxes = sum(
            annotation["category_id"] == category["id"] and not annotation["iscrowd"]
            for annotation in truth["annotations"]
        )
        scores[str(category["name"])] = {
            "AP": _average(precision[:, :, index, 0, -1]),
            "AP50": _average(precision[0, :, index, 0, -1]),
            "boxes": int(boxes),
        }
    return scores


def _by_side(
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    scales: Mapping[Any, float] | None,
    max_detections: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Computes AP by box side in network pixels: pycocotools on scaled boxes, with our ranges."""

    def scaled(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for entry in entries:
            scale = 1.0 if scales is None else scales[entry["image_id"]]
            box = [side * scale for side in entry["bbox"]]
            yield {**entry, "bbox": box, "area": box[2] * box[3]}

    scaled_truth = {**truth, "annotations": list(scaled(truth["annotations"]))}
    # pycocotools includes both bounds of a range; a box on a bound belongs to the larger range.
    areas = {name: (low**2, math.nextafter(high**2, 0)) for name, (low, high) in SIDES.items()}
    evaluator = run_cocoeval(scaled_truth, list(scaled(results)), max_detections, areas)
    area = np.array(
        [entry["area"] for entry in scaled_truth["annotations"] if not entry["iscrowd"]]
    )
    precision = evaluator.eval["precision"]
    return {
        name: {
            "AP": _average(precision[:, :, :, index, -1]),
            "AP50": _average(precision[0, :, :, index, -1]),
            "boxes": int(((area >= low) & (area <= high)).sum()),
        }
        for index, (name, (low, high)) in enumerate(areas.items())
    }
