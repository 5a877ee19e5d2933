"""Reads and checks COCO's annotations and results for scores."""

import json
import math
import numbers
import pathlib
from typing import Any

import numpy as np

from keras_spd.typing import Path

_REQUIRED = {
    "images": ("id",),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


def read_coco_pair(
    ground_truth: Path | dict[str, Any], detections: Path | list[dict[str, Any]]
) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """Reads and checks ground truth and results; returns copies with optional fields filled in."""
    truth = _read_json(ground_truth, "ground_truth")
    results = _read_json(detections, "detections")
    keys = ("images", "annotations", "categories")
    if not isinstance(truth, dict) or any(not isinstance(truth.get(key), list) for key in keys):
        raise ValueError(
            f"`ground_truth` must be COCO's annotations, with lists of {', '.join(keys)}."
        )
    if not isinstance(results, list):
        raise ValueError("`detections` must be a list of COCO results.")
    for key, fields in _REQUIRED.items():
        for number, entry in enumerate(truth[key]):
            if not isinstance(entry, dict) or not set(fields) <= set(entry):
                raise ValueError(
                    f"Entry {number} of `{key}` in `ground_truth` must have "
                    f"{', '.join(fields)}. Received: {entry!r}."
                )
    for number, annotation in enumerate(truth["annotations"]):
        _check_box(annotation, f"Entry {number} of `annotations` in `ground_truth`")
    truth = {key: [_with_list(entry) for entry in truth[key]] for key in keys}
    images = {image["id"] for image in truth["images"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    if len(set(names.values())) < len(truth["categories"]):
        raise ValueError(
            "The categories of `ground_truth` must have different ids and names. "
            f"Received: {names}."
        )
    truth["annotations"] = [  # pycocotools ignores the others
        annotation
        for annotation in truth["annotations"]
        if annotation["image_id"] in images and annotation["category_id"] in names
    ]
    for number, annotation in enumerate(truth["annotations"], start=1):
        annotation["id"] = number  # 0 means "no match" to pycocotools
        annotation["iscrowd"] = annotation.get("iscrowd") or 0
        if annotation.get("area") is None:
            annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    for number, result in enumerate(results):
        if not isinstance(result, dict):
            raise ValueError(f"Detection {number} must be a dictionary. Received: {result!r}.")
        missing = {"image_id", "category_id", "bbox", "score"} - set(result)
        if missing:
            raise ValueError(f"Detection {number} has no {sorted(missing)}: {result!r}.")
        _check_box(result, f"Detection {number}")
        if not _is_number(result["score"]):
            raise ValueError(
                f"Detection {number} must have a finite number as `score`. Received: {result!r}."
            )
        for key, known in (("image_id", images), ("category_id", names)):
            if result[key] not in known:
                raise ValueError(
                    f"Detection {number} has {key}={result[key]!r}, which is not in the ground "
                    "truth. Were the detections made on another dataset?"
                )
    return truth, [_with_list(result) for result in results]


def _with_list(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns a copy with its box as a list, which pycocotools needs."""
    return entry | {"bbox": list(map(float, entry["bbox"]))} if "bbox" in entry else dict(entry)


def _check_box(entry: dict[str, Any], name: str) -> None:
    box = entry["bbox"]
    whole = isinstance(box, (list, tuple, np.ndarray)) and len(box) == 4
    if not whole or not all(map(_is_number, box)):
        raise ValueError(
            f"{name} must have a `bbox` of four finite numbers: x, y, width, height. "
            f"Received: {entry!r}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _read_json(content: Any, argument: str) -> Any:
    if not isinstance(content, (str, pathlib.Path)):
        return content
    try:
        return json.loads(pathlib.Path(content).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Cannot read `{argument}` from {content}: {error}") from error
