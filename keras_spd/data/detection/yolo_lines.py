"""The lines of YOLO's label files: each a box, a polygon, or a box with keypoints."""

import math
import pathlib

from keras_spd.data.files import parse_number, read_text
from keras_spd.data.problems import Problems

Box = tuple[float, float, float, float]
_MOST_CLASSES = 30_000  # without names; more than any dataset has


def read_labels(
    file: pathlib.Path | None,
    size_hw: tuple[int, int],
    num_classes: int | None,
    keypoints: int,
    problems: Problems,
) -> tuple[list[Box], list[int], list[str]]:
    """Reads the boxes of an image.

    A line is `class x y width height`, optionally followed by a confidence, or a polygon,
    `class x1 y1 x2 y2 x3 y3 ...`, which becomes its bounding box.

    Args:
        file: Path of the label file, or `None`.
        size_hw: Height and width of the image in pixels.
        num_classes: Integer, or `None` if the classes have no names.
        keypoints: How many numbers of keypoints follow each box.
        problems: `Problems`; bad lines are added to it.

    Returns:
        Three lists: xyxy boxes in pixels, classes, and the file and line of each.
    """
    if file is None:
        return [], [], []
    height, width = size_hw
    boxes, classes, locations = [], [], []
    try:
        lines = read_text(file).splitlines()
    except (OSError, ValueError) as error:
        problems.add(file, f"cannot be read ({error})")
        return [], [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            label, (x1, y1, x2, y2) = _parse(line, num_classes, keypoints)
        except ValueError as error:
            problems.add(file, f"line {number}: {error}")
            continue
        boxes.append((x1 * width, y1 * height, x2 * width, y2 * height))
        classes.append(label)
        locations.append(f"{file}: line {number}")
    return boxes, classes, locations


def _parse(line: str, num_classes: int | None, keypoints: int) -> tuple[int, Box]:
    """Returns the class and the xyxy box of a line, as fractions of the image's sides."""
    shown = repr(line if len(line) <= 80 else f"{line[:77]}...")
    try:
        label, *values = map(parse_number, line.split())
    except ValueError:
        label, values = math.nan, []
    count = len(values)
    pose = keypoints and count in (4 + keypoints, 5 + keypoints)  # perhaps with a confidence
    polygon = count >= 6 and count % 2 == 0 and not pose
    # A fifth number is a confidence.
    shaped = count in (4, 5) or pose or polygon
    if not shaped or not math.isfinite(label) or label < 0 or label != int(label):
        raise ValueError(f"{shown} is not `class x y width height`, nor a polygon")
    if num_classes is not None and label >= num_classes:
        raise ValueError(
            f"class {int(label)} does not exist; the classes are 0 to {num_classes - 1}"
        )
    if label >= _MOST_CLASSES:
        raise ValueError(
            f"class {label:.0f}; without names in a `data.yaml` the highest is {_MOST_CLASSES - 1}"
        )
    track = line.split()[-1]
    if polygon and count == 6 and max(values[:5]) <= 1 and track.isdigit() and int(track):
        raise ValueError(
            f"{shown} may be a box with a confidence and a track, or a polygon: remove the number "
            "of the track, or write coordinates of a polygon with a decimal point"
        )
    values = values if polygon else values[:4]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{shown} has a coordinate that is NaN or infinite")
    if max(values) > 1.5:
        raise ValueError(f"{shown} must be fractions of the image's sides, not pixels")
    if polygon:
        return int(label), (
            min(values[::2]),
            min(values[1::2]),
            max(values[::2]),
            max(values[1::2]),
        )
    x, y, w, h = values
    return int(label), (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
