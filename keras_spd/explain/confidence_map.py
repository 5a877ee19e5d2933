"""Confidence maps: where a detector sees objects, and at which level."""

from collections.abc import Mapping
from typing import Any

from PIL import Image

from keras_spd.applications import Detector
from keras_spd.detection.anchors import level_stride
from keras_spd.explain import layout
from keras_spd.explain.activations import to_numpy
from keras_spd.explain.network_input import check_class, class_name, prepare
from keras_spd.explain.tiles import merged, prepare_tiles
from keras_spd.images.fonts import drawable
from keras_spd.typing import Array, Path


def confidence_map(
    model: Detector,
    image: Path | Array,
    class_index: int | None = None,
    *,
    tile: int | tuple[int, int] | None = None,
    overlap: float = 0.2,
) -> dict[str, Array]:
    """Returns a detector's confidence in each cell of each level, before NMS.

    Shows objects that are seen, but not reported because their confidence is low, and the level
    that sees them: small objects belong to the level of the smallest stride.

    Args:
        model: `Detector`, with any head.
        image: As in `feature_maps`, letterboxed to the size the detector was trained at; with
            `tile`, not a float array.
        class_index: Integer; `None` for the most confident class of each cell.
        tile, overlap: As in `keras_spd.Predictor`, for detectors of small objects in large images.
            The maps of all tiles are merged into one of the whole image, without margins; where
            tiles overlap, the larger confidence counts.

    Returns:
        `{level: array}`: float32 arrays of shape `(rows, columns)`, values 0..1, the confidence
        of the best anchor.

    Raises:
        ValueError: If the model is not a detector, or the class or the tile is not as described.

    Example:

    >>> maps = keras_spd.explain.confidence_map(detector, "board.jpg")
    >>> maps["P3"].max()
    """
    return _explain(model, image, class_index, tile, overlap)[1]


def _explain(
    model: Any,
    image: Path | Array,
    class_index: int | None,
    tile: int | tuple[int, int] | None,
    overlap: float,
) -> tuple[Array, dict[str, Array]]:
    """Returns the pixels that the network sees, of shape `(height, width, 3)`, and the maps."""
    _check(model)
    if class_index is not None:
        check_class(class_index, model.num_classes)
    if tile is None:
        given = prepare(model, image)
        return given.pixels, _maps(model, given.batch, class_index)
    pixels, parts = prepare_tiles(model, image, tile, overlap)
    found = ((part, _maps(model, part.batch, class_index)) for part in parts)
    return pixels, merged(found, pixels.shape[:2])


def _maps(model: Detector, batch: Array, class_index: int | None) -> dict[str, Array]:
    raw = model(batch, training=False)
    maps = {}
    for level in sorted(raw, key=level_stride):
        predictions = to_numpy(model.head.decode({level: raw[level]}))[0]
        confidence = predictions[:, 4:5] * predictions[:, 5:]
        best = confidence.max(axis=1) if class_index is None else confidence[:, class_index]
        rows, columns = raw[level].shape[1:3]
        maps[level] = best.reshape(rows, columns, -1).max(axis=-1)
    return maps


def _check(model: Any) -> None:
    if not isinstance(model, Detector):
        raise ValueError(
            "`confidence_map` is for detectors. "
            f"Received: `{getattr(model, 'name', model)}`, of type {type(model).__name__}. "
            "For classifiers, use `grad_cam`."
        )


def draw_confidence_map(
    models: Detector | Mapping[str, Detector],
    image: Path | Array,
    class_index: int | None = None,
    *,
    tile: int | tuple[int, int] | None = None,
    overlap: float = 0.2,
) -> Image.Image:
    """Draws the confidence maps of one or more detectors over the same image.

    Args:
        models: A detector, or `{name: detector}`.
        image, class_index, tile, overlap: As in `confidence_map`.

    Returns:
        `PIL.Image.Image`, with a row for each detector and a picture for each level, in
        which a cell has at least 4 pixels.

    Raises:
        ValueError: As in `confidence_map`.

    Example:

    >>> twins = {"SPD": spd, "strided": strided}
    >>> keras_spd.explain.draw_confidence_map(twins, "board.jpg").save("confidence.png")
    """
    rows = []
    for name, model in layout.named_models(models).items():
        pixels, maps = _explain(model, image, class_index, tile, overlap)
        height, width = pixels.shape[:2]
        side = max(layout.LARGE, *(4 * max(values.shape) for values in maps.values()))
        pictures = [layout.captioned(f"{width} x {height}", [layout.tile(pixels, side)])]
        for level, values in maps.items():
            picture = layout.overlay(pixels, values, side)
            caption = f"{level}: {values.shape[1]} x {values.shape[0]}, max {values.max():.2f}"
            pictures.append(layout.captioned(caption, [picture]))
        pictures.append(layout.captioned("scale", [layout.heat_scale()]))
        what = "the best class"
        if class_index is not None:
            what = drawable(class_name(model, class_index), class_index)
        title = f"{name}: confidence of {what} before NMS"
        rows.append(layout.captioned(title, pictures, columns=len(pictures), bold=True))
    return layout.side_by_side([rows])
