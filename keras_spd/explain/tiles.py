"""Cuts a large image into tiles for a detector, and merges what it computes for each of them."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from keras_spd.applications import Detector
from keras_spd.detection.anchors import level_stride
from keras_spd.detection.image_size import standardize_image_size
from keras_spd.image_model import known_preprocessing
from keras_spd.images.geometry import Letterbox, letterbox
from keras_spd.images.read import to_array, to_rgb
from keras_spd.images.tiles import check_overlap, check_tile, crop, tile_corners
from keras_spd.typing import Array, Path


@dataclasses.dataclass(frozen=True, eq=False)
class TileInput:
    """A tile as the input of a network.

    Args:
        batch: float32 array of shape `(1, height, width, 3)`, normalised.
        corner: `(row, column)` of the tile in the image.
        fit: `Letterbox` of the tile.
    """

    batch: Array
    corner: tuple[int, int]
    fit: Letterbox


def prepare_tiles(
    model: Detector, image: Path | Array, tile: int | tuple[int, int], overlap: float
) -> tuple[Array, Iterator[TileInput]]:
    """Reads an image, and cuts it into the tiles that `keras_spd.Predictor` predicts.

    Args:
        model: `Detector`.
        image: Any image that `keras_spd.images.to_rgb` accepts.
        tile, overlap: As in `keras_spd.Predictor`.

    Returns:
        The image, a uint8 array of shape `(height, width, 3)`, and an iterator of `TileInput`.
    """
    sides, overlap = check_tile(tile), check_overlap(overlap)
    preprocessing = known_preprocessing(model)
    pixels = to_array(to_rgb(image, max_value=preprocessing.max_value))
    size = standardize_image_size(None, model, sides)

    def cut(corner: tuple[int, int]) -> TileInput:
        canvas, fit = letterbox(crop(pixels, corner, sides), size)
        return TileInput(preprocessing.normalize(canvas[None]), corner, fit)

    return pixels, map(cut, tile_corners(pixels.shape[:2], sides, overlap))


def merged(
    found: Iterable[tuple[TileInput, Mapping[str, Array]]], size: tuple[int, int]
) -> dict[str, Array]:
    """Merges the maps of tiles into maps of the whole image; the largest value counts.

    Args:
        found: A `TileInput` and `{level: array (rows, columns)}` for each tile.
        size: `(height, width)` of the image, in pixels.

    Returns:
        `{level: array}`, with as many cells as an image at the scale of the tiles has.
    """
    whole: dict[str, Array] = {}
    for part, maps in found:
        for level, values in maps.items():
            stride = level_stride(level)
            if level not in whole:
                cells = [max(round(side * part.fit.scale / stride), 1) for side in size]
                whole[level] = np.zeros(cells, values.dtype)
            shifts = (part.fit.top, part.fit.left)
            places, inside = [], []
            for axis, shift in enumerate(shifts):
                # The centre of each cell in the tile, and in the image, in network pixels.
                own = (np.arange(values.shape[axis]) + 0.5) * stride - shift
                side = part.fit.image_size_hw[axis] * part.fit.scale
                inside.append((own > -stride / 2) & (own < side + stride / 2))  # at least partly
                cell = (own + part.corner[axis] * part.fit.scale) // stride
                places.append(cell.clip(0, whole[level].shape[axis] - 1).astype(int)[inside[axis]])
            np.maximum.at(whole[level], np.ix_(*places), values[np.ix_(*inside)])
    return whole
