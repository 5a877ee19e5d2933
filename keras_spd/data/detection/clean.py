"""Makes a `BoxedImage` from annotations that may be wrong."""

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_spd.data.detection.boxed_image import BoxedImage
from keras_spd.data.problems import Problems
from keras_spd.typing import Array

_ROUNDING = 0.5  # pixels that a box may extend beyond the image without being reported


def clean_boxes(boxes: Array, size_hw: tuple[int, int]) -> tuple[Array, list[str | None]]:
    """Clips boxes to the image.

    Args:
        boxes: List of xyxy boxes in pixels, which may be invalid.
        size_hw: Height and width of the image, in pixels.

    Returns:
        float32 array of shape `(boxes, 4)`, and for each box `None` or the problem with it.
    """
    height, width = size_hw
    boxes = np.array(boxes, "float64").reshape(-1, 4)
    clipped = np.clip(np.nan_to_num(boxes), 0, [width, height, width, height])
    complaints: list[str | None] = []
    for box, inside in zip(boxes, clipped, strict=True):
        if not np.isfinite(box).all():
            complaints.append(f"the box {box.tolist()} has a coordinate that is NaN or infinite")
        elif (box[2:] <= box[:2]).any():
            complaints.append(f"the box {box.tolist()} (x1, y1, x2, y2) has no area")
        elif (inside[2:] <= inside[:2]).any():
            complaints.append(f"the box {box.tolist()} (x1, y1, x2, y2) is outside the image")
        else:
            complaints.append(None)
    return clipped.astype("float32"), complaints


def boxed_image(
    problems: Problems,
    *,
    image_id: Any,
    name: str,
    source: Any,
    size_hw: tuple[int, int],
    boxes: Any,
    classes: Any,
    crowd: Any = None,
    locations: Any = None,
    records: Iterable[dict[str, Any]] = (),
) -> BoxedImage:
    """Makes a `BoxedImage`, and reports and skips bad boxes.

    Args:
        problems: `Problems` to add them to.
        image_id, name, source, size_hw, classes, crowd: As in `BoxedImage`.
        boxes: List of xyxy boxes in pixels, which may be invalid.
        locations: Location of each box in a file, for messages; defaults to `name`.
        records: The entry of each box in COCO annotations, or nothing.

    Returns:
        `BoxedImage`.
    """
    given = np.array(boxes, "float64").reshape(-1, 4)
    boxes, complaints = clean_boxes(given, size_hw)
    outside = np.abs(given - boxes)
    fractions = outside / [*size_hw[::-1], *size_hw[::-1]]
    for index, (location, complaint) in enumerate(
        zip(locations or [name] * len(boxes), complaints, strict=True)
    ):
        if complaint is not None:
            problems.add(location, complaint)
        elif outside[index].max() > _ROUNDING:
            problems.add_clipped(location, fractions[index].max())
    good = np.array([complaint is None for complaint in complaints], bool)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd, bool)
    return BoxedImage(
        image_id=image_id,
        name=name,
        source=source,
        size_hw=(int(size_hw[0]), int(size_hw[1])),
        boxes=boxes[good],
        classes=np.array(classes, "int32").reshape(-1)[good],
        crowd=crowd[good],
        records=tuple(itertools.compress(records, good)),
    )
