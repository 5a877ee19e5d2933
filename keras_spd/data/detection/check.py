"""Describes a detection dataset and suggests input size and anchors."""

import json
from typing import Any

import numpy as np

from keras_spd.data.detection.check_tiles import (
    LARGEST_INPUT,
    advise_tiles,
    describe_sides,
    describe_tiles,
)
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.data.problems import plural
from keras_spd.detection import best_possible_recall, fit_anchors
from keras_spd.detection.anchors import MIN_RECALL, RATIO_THRESHOLD, standardize_anchors
from keras_spd.images.max_value import find_max_value
from keras_spd.typing import Array

_SIZES = (320, 416, 512, 640, 800, 960, LARGEST_INPUT)
_LEVELS = ("P3", "P4", "P5")
_NAMED = 5  # images, as examples


def describe_detection(
    data: DetectionData,
    image_size: tuple[int, int] = (640, 640),
    tile: tuple[int, int] | None = None,
    overlap: float = 0.2,
) -> dict[str, Any]:
    """Counts images and boxes and measures the boxes in network pixels.

    Args:
        data: `DetectionData`.
        image_size: `(height, width)` of the network's input, in pixels.
        tile, overlap: As in `DetectionData.tiles`. With a `tile`, boxes are measured in tiles.

    Returns:
        Dictionary with `images`, `boxes`, `boxes_by_class`, `images_without_boxes`,
        `examples_without_boxes` (names of up to 5 of them), `crowd_regions`, `image_size`,
        `boxes_by_side` (square root of width times height, in network pixels),
        `side_percentiles` (10, 50 and
        90 %), `best_possible_recall` of the default anchors, `suggested_anchors`,
        `suggested_image_size`, `suggested_levels` (for small boxes), `max_value` (of images with
        more than 8 bits, or `None`), `tile`, `tiles` (as `describe_tiles`, for `tile` or for tiles
        as large as the input), `problems` and `notes`.
    """
    without = [image.name for image in data.images if not len(image.boxes)]
    labels = np.concatenate([image.classes[~image.crowd] for image in data.images] or [[]])
    counts = np.bincount(labels.astype(int), minlength=len(data.class_names))
    sides = data.box_sides(image_size, tile)
    report = {
        "images": data.num_images,
        "boxes": len(sides),
        "boxes_by_class": dict(zip(data.class_names, counts.tolist(), strict=True)),
        "images_without_boxes": len(without),
        "examples_without_boxes": without[:_NAMED],
        "crowd_regions": int(sum(image.crowd.sum() for image in data.images)),
        "image_size": list(image_size),
        "tile": None if tile is None else list(tile),
        **describe_sides(sides),
        "max_value": find_max_value(image.encoded() for image in data.images),
        "problems": list(data.problems),
        "notes": list(data.notes),
    }
    if len(sides):
        report["best_possible_recall"] = best_possible_recall(
            sides, standardize_anchors(None, _LEVELS)
        )
        report["suggested_image_size"] = _suggest_size(data, tile)
        report["suggested_anchors"] = _suggest_anchors(sides)
        report["suggested_levels"] = _suggest_levels(sides)
        report["tiles"] = describe_tiles(data, image_size, tile or image_size, overlap)
    return report


def format_description(report: dict[str, Any]) -> str:
    """Returns the report of `describe_detection` as lines of text."""
    size, tile = "x".join(map(str, report["image_size"])), report["tile"]
    in_tiles = f", in tiles of {tile[0]}x{tile[1]}" if tile else ""
    lines = [
        f"{plural(report['images'], 'image')}, {report['images_without_boxes']} of them without "
        f"a box; {plural(report['boxes'], 'box')}, "
        f"{plural(report['crowd_regions'], 'crowd region')}.",
        *_name_images_without_boxes(report),
        "Boxes by class: "
        + ", ".join(f"{name} {count}" for name, count in report["boxes_by_class"].items() if count)
        + _name_empty_classes(report["boxes_by_class"]),
        f"Boxes by side in network pixels at {size}{in_tiles}: "
        + ", ".join(f"{name}: {count}" for name, count in report["boxes_by_side"].items()),
    ]
    if "side_percentiles" in report:
        low, middle, high = report["side_percentiles"]
        lines.append(f"Box side: 10 % below {low}, half below {middle}, 90 % below {high} pixels.")
        too_few = report["best_possible_recall"] < MIN_RECALL
        lines.append(
            f"The default anchors match {report['best_possible_recall']:.1%} of the boxes at "
            f"{size}" + (", which is too few." if too_few else ".")
        )
        if too_few and report["suggested_anchors"]:
            anchors = "; ".join(
                f"{level}: {', '.join(f'{w:g}x{h:g}' for w, h in pairs)}"
                for level, pairs in report["suggested_anchors"].items()
            )
            lines.append(
                f"Anchors fitted to these boxes (`train --set fit_anchors=true`): {anchors}."
            )
        lines += advise_tiles(report["tiles"], tile is not None, size)
        lines.append(_suggest_input(report, low))
        if middle < 16:
            levels = report["suggested_levels"]
            lines.append(
                "Half of the boxes are below 16 pixels: consider a P2 head"
                + (" instead of P5, as no box is large" if "P5" not in levels else "")
                + f", `--set 'model.options.levels={json.dumps(levels)}'`."
            )
    if report["max_value"] is not None:
        lines.append(
            "Some images have more than 8 bits. `keras-spd train` finds their depth; to set it, "
            "use `--set data.max_value=...`. In Python, pass "
            f"`max_value={report['max_value']:g}`, the smallest common depth that fits all values."
        )
    lines += [f"Note: {note}" for note in report["notes"]]
    count = plural(len(report["problems"]), "problem")
    lines.append(count + (":" if report["problems"] else "."))
    return "\n".join(lines + [f"  {problem}" for problem in report["problems"]])


def _name_empty_classes(boxes_by_class: dict[str, int]) -> str:
    empty = [name for name, count in boxes_by_class.items() if not count]
    if not empty:
        return ""
    more = ", ..." if len(empty) > _NAMED else ""
    return f"; none of {plural(len(empty), 'class')} ({', '.join(empty[:_NAMED])}{more})"


def _suggest_input(report: dict[str, Any], low: float) -> str:
    """Returns the line that says at which size most boxes are as large as the finest stride."""
    reason = "9 of 10 boxes have a side of 8 pixels or more, the finest stride"
    if report["suggested_image_size"] is None:
        largest = "x".join([str(_SIZES[-1])] * 2)
        return f"Even at {largest}, more than 1 of 10 boxes is below 8 pixels, the finest stride."
    height, width = report["suggested_image_size"]
    if low >= 8 and max(report["image_size"]) <= height:
        return f"The input size is large enough: {reason}."
    return (
        f"Suggested input: {height}x{width}, the smallest of {', '.join(map(str, _SIZES))} at "
        f"which {reason}."
    )


def _name_images_without_boxes(report: dict[str, Any]) -> list[str]:
    names = report["examples_without_boxes"]
    more = ["..."] if report["images_without_boxes"] > len(names) else []
    return [f"Without a box: {', '.join(names + more)}"] if names else []


def _suggest_size(data: DetectionData, tile: tuple[int, int] | None) -> list[int] | None:
    for size in _SIZES:
        sides = data.box_sides((size, size), tile)
        if np.percentile(np.sqrt(sides.prod(axis=1)), 10) >= 8:
            return [size, size]
    return None


def _suggest_levels(sides: Array) -> list[str]:
    """Returns P2 to P4 if no box exceeds what their anchors can learn, otherwise P2 to P5."""
    levels = ["P2", "P3", "P4"]
    anchors = np.concatenate([*standardize_anchors(None, levels).values()])
    learned = np.any(np.all(sides[:, None] < RATIO_THRESHOLD * anchors, axis=2), axis=1)
    return levels if learned.all() else [*levels, "P5"]


def _suggest_anchors(sides: Array) -> Any:
    try:
        boxes = np.concatenate([np.zeros_like(sides), sides], axis=1)
        return fit_anchors(boxes, bounding_box_format="xywh")
    except ValueError:  # too few boxes of different sizes
        return None
