"""Says whether tiles would enlarge the boxes of a detection dataset."""

from typing import Any

import numpy as np

from keras_spd.data.detection.dataset import DetectionData
from keras_spd.data.problems import plural
from keras_spd.images.tiles import part_size
from keras_spd.metrics.coco import SIDES
from keras_spd.typing import Array

_EDGES = {name: low for name, (low, _) in SIDES.items()}
_SMALL = 32  # pixels, as in COCO's scores
_GAIN = 1.25  # of the sides of boxes; less is not worth the tiles
_MANY = 0.01  # of the boxes
LARGEST_INPUT = 1280  # pixels; larger inputs are slow and need much memory


def describe_sides(sides: Array) -> dict[str, Any]:
    """Returns `boxes_by_side` and, if there are boxes, `side_percentiles`.

    Args:
        sides: Array `(boxes, 2)`, widths and heights in network pixels.
    """
    side = np.sqrt(sides.prod(axis=1))
    counts = np.histogram(side, [*_EDGES.values(), np.inf])[0].tolist()
    described: dict[str, Any] = {"boxes_by_side": dict(zip(_EDGES, counts, strict=True))}
    if len(side):
        described["side_percentiles"] = np.percentile(side, (10, 50, 90)).round(1).tolist()
    return described


def describe_tiles(
    data: DetectionData, image_size: tuple[int, int], tile: tuple[int, int], overlap: float
) -> dict[str, Any]:
    """Measures boxes with and without tiles.

    Args:
        data: `DetectionData` with boxes.
        image_size: `(height, width)` of the network's input, in pixels.
        tile, overlap: As in `DetectionData.tiles`.

    Returns:
        Dictionary with `size`, `overlap`, `larger_images` (the number of images that would be
        cut), `trained_on` (images and tiles to train on; `None` if no object fits into a tile),
        `without` and `within` tiles (as `describe_sides`), `larger_than_overlap` (fraction of the
        boxes) and `longest_side` of the images.
    """
    sizes = [image.size_hw for image in data.images]
    sides = np.concatenate([image.boxes[~image.crowd] for image in data.images])
    sides = sides[:, 2:] - sides[:, :2]
    try:
        trained_on = data.tiles(tile, overlap).num_images
    except ValueError:
        trained_on = None
    return {
        "size": list(tile),
        "overlap": overlap,
        "larger_images": sum(part_size(size, tile) != tuple(size) for size in sizes),
        "trained_on": trained_on,
        "without": describe_sides(data.box_sides(image_size)),
        "within": describe_sides(data.box_sides(image_size, tile)),
        "larger_than_overlap": float((sides > overlap * np.array(tile[::-1])).any(axis=1).mean()),
        "longest_side": max(map(max, sizes)),
    }


def advise_tiles(tiles: dict[str, Any], used: bool, image_size: str) -> list[str]:
    """Returns the lines about tiles in a report.

    Args:
        tiles: As `describe_tiles` returns them.
        used: Boolean, whether the report is about boxes in tiles.
        image_size: Size of the network's input, as text.
    """
    size = "x".join(map(str, tiles["size"]))
    if not tiles["larger_images"]:
        unused = f"No image is larger than a tile of {size}, so tiles change nothing."
        return [unused] if used else []
    if tiles["trained_on"] is None:
        return [f"Tiles of {size} are too small: no object has half of its area in one."]
    other = tiles["without" if used else "within"]
    counts = ", ".join(f"{name}: {count}" for name, count in other["boxes_by_side"].items())
    lines = [
        f"{'Without tiles' if used else f'In tiles of {size}'}: {counts}; half below "
        f"{other['side_percentiles'][1]} pixels.",
        _advise(tiles, size, image_size, used),
    ]
    if used:
        lines.append(
            f"{plural(tiles['larger_images'], 'image')} larger than a tile; "
            f"{tiles['trained_on']} images and tiles to train on after cutting."
        )
    if used and tiles["larger_than_overlap"] > _MANY:
        lines.append(
            f"{tiles['larger_than_overlap']:.0%} of the boxes are larger than the overlap of two "
            "tiles, so some may not fit into any tile completely: raise `--tile`, or also train "
            "on whole images, `train --set data.tile_whole=true`."
        )
    return lines


def _advise(tiles: dict[str, Any], size: str, image_size: str, used: bool) -> str:
    without, within = (tiles[key]["side_percentiles"][1] for key in ("without", "within"))
    if without >= _SMALL:
        return f"Tiles are not needed: half of the boxes have {without} pixels or more."
    if within < _GAIN * without:
        return (
            f"Tiles would hardly enlarge the boxes: half of them are below {within} pixels with "
            f"tiles, and below {without} without."
        )
    if tiles["longest_side"] <= LARGEST_INPUT:
        side = -(-tiles["longest_side"] // 32) * 32
        return (
            f"Tiles enlarge the boxes, but `--image-size {side}` shows whole images without "
            "shrinking them, at a lower cost."
        )
    command = "x".join(map(str, dict.fromkeys(tiles["size"])))
    again = ""
    if not used:
        again = " Then also run `check-data` with `--tile`: other advice here is for whole images."
    return (
        f"Tiles help: half of the boxes are below {without} pixels at {image_size}, and below "
        f"{within} in tiles. Pass `--tile {command}` to `train`, `evaluate` and `predict`.{again}"
    )
