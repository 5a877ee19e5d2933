"""Tiles: boxes follow the pixels, and what is dropped at a border and without objects."""

import dataclasses
import inspect
import io

import numpy as np
import pytest
from drawings import write_drawings
from PIL import Image

from keras_spd.data import (
    BoxedImage,
    DetectionAugmentation,
    DetectionBatches,
    DetectionData,
    load_detection,
)
from keras_spd.data.detection.order import random_order
from keras_spd.images.tiles import tile_corners
from keras_spd.predict import Predictor
from keras_spd.training.fields import DetectionSource


def boxed(name, size, boxes, crowd=None, fill=255):
    """An image with white rectangles on black."""
    pixels = np.zeros((*size, 3), "uint8")
    for x1, y1, x2, y2 in boxes:
        pixels[y1:y2, x1:x2] = fill
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    boxes = np.array(boxes, "float32").reshape(-1, 4)
    crowd = np.zeros(len(boxes), bool) if crowd is None else np.array(crowd)
    classes = np.zeros(len(boxes), "int32")
    return BoxedImage(name, name, file.getvalue, size, boxes, classes, crowd)


def dataset(*images):
    return DetectionData(images, ("white",), (7,))


@pytest.mark.parametrize("overlap", [0, 0.2, 0.5])
@pytest.mark.parametrize("size", [(64, 64), (100, 64), (150, 333), (40, 200)])
def test_boxes_follow_the_pixels(overlap, size):
    """Every tile has the pixels of its place in the image, and a box around its white pixels."""
    x, y = size[1] // 2, size[0] // 2
    image = boxed("picture", size, [(x - 9, y - 7, x + 8, y + 6)])
    tiles = dataset(image).tiles(64, overlap, min_area=0, empty=1).images
    assert len(tiles) == len(tile_corners(size, (64, 64), overlap))
    whole = image.read()
    for tile in tiles:
        pixels = tile.read()
        assert pixels.shape == (*tile.size_hw, 3) == (min(size[0], 64), min(size[1], 64), 3)
        top, left = getattr(tile, "corner", (0, 0))
        np.testing.assert_array_equal(pixels, whole[top : top + 64, left : left + 64])
        rows, columns = np.nonzero(pixels[..., 0])
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else []
        assert tile.boxes.ravel().tolist() == found
    assert len({tile.image_id for tile in tiles}) == len(tiles)


@pytest.mark.parametrize(("inside", "kept"), [(20, "l"), (11, "l"), (10, "lr"), (9, "r"), (0, "r")])
def test_a_box_is_kept_with_half_of_its_area(inside, kept):
    """A box of 20 columns, at the border of two tiles: column 64 of an image of 128."""
    image = boxed("one", (64, 128), [(64 - inside, 10, 84 - inside, 20)])
    tiles = dataset(image).tiles(64, 0, empty=0).images
    assert [tile.corner[1] for tile in tiles] == [{"l": 0, "r": 64}[side] for side in kept]
    columns = {0: [64 - inside, 64], 64: [0, 20 - inside]}
    if inside not in (0, 20):
        assert [tile.boxes[0, [0, 2]].tolist() for tile in tiles] == [
            columns[tile.corner[1]] for tile in tiles
        ]


def test_images_that_are_not_larger_stay_as_they_are():
    same, wide = boxed("same", (64, 64), [(0, 0, 8, 8)]), boxed("wide", (32, 65), [(0, 0, 8, 8)])
    empty = boxed("empty", (10, 64), [])
    tiles = dataset(same, wide, empty).tiles(64, empty=0)
    assert tiles.images[0] is same and tiles.images[-1] is empty
    assert [tile.name for tile in tiles.images[1:-1]] == ["wide[0:32, 0:64]", "wide[0:32, 1:65]"]


def test_tiles_without_objects():
    """A fraction is kept, chosen by the seed; never those with parts of objects or crowds only."""
    image = boxed("one", (640, 640), [(0, 0, 66, 66), (300, 300, 310, 310)], [False, True])
    empty = boxed("two", (640, 640), [])
    data = dataset(image, empty)
    assert [tile.corner for tile in data.tiles(64, 0, empty=0).images] == [(0, 0)]
    every = data.tiles(64, 0, empty=1)
    # Of 200 tiles, 3 have two columns or rows of the first object, and one has the crowd.
    assert every.num_images == 196
    some = [data.tiles(64, 0, empty=0.2, seed=seed) for seed in (0, 0, 1)]
    names = [{tile.name for tile in one.images} for one in some]
    assert [len(one) for one in names] == [1 + 39] * 3
    assert names[0] == names[1] != names[2]


def test_crowds_are_cut_and_whole_images_are_mixed_in():
    image = boxed("one", (64, 128), [(2, 2, 12, 12), (60, 0, 128, 64)], [False, True])
    [tile, whole] = dataset(image).tiles(64, 0, empty=1, whole=True).images
    assert whole is image
    assert tile.boxes.tolist() == [[2, 2, 12, 12], [60, 0, 64, 64]]
    assert tile.crowd.tolist() == [False, True]
    # A small image is there once.
    assert dataset(boxed("small", (64, 64), [(2, 2, 9, 9)])).tiles(64, whole=True).num_images == 1


def test_tiles_are_data_like_any_other(tmp_path):
    data = load_detection(write_drawings(tmp_path / "drawings"))
    tiles = data.tiles(48, 0.2)
    content = tiles.to_coco()
    assert len(content["images"]) == tiles.num_images > data.num_images
    assert len(content["annotations"]) == sum(len(tile.boxes) for tile in tiles.images)
    assert {image["width"] for image in content["images"]} == {48}
    assert (tiles.box_sides((96, 96)) <= 96).all()
    wholes = {tile.whole for tile in tiles.with_max_value(100.0).images}
    assert {whole.max_value for whole in wholes} == {100.0} and len(wholes) == 8


class Counted(BoxedImage):
    reads = 0

    def read(self):
        Counted.reads += 1
        return super().read()


def counted(*images):
    Counted.reads = 0
    names = [field.name for field in dataclasses.fields(BoxedImage)]
    return dataset(*(Counted(**{name: getattr(one, name) for name in names}) for one in images))


def test_batches_of_tiles_are_reproducible_and_decode_each_image_once():
    image = boxed("one", (200, 300), [(x, 20, x + 9, 29) for x in range(0, 290, 15)])
    tiles = counted(image).tiles(64)
    options = {"augmentation": DetectionAugmentation(mosaic=1.0, scale=0.5), "shuffle": True}
    one, again = (DetectionBatches(tiles, 4, (64, 64), **options) for _ in range(2))
    for epoch in range(2):
        for batch in range(len(one)):
            images, boxes, classes = one.load(epoch, batch)
            assert (classes >= 0).any()
    assert Counted.reads == 1
    np.testing.assert_array_equal(again.load(epoch, batch)[0], images)
    np.testing.assert_array_equal(again.load(epoch, batch)[1], boxes)


def test_with_little_memory_an_epoch_decodes_each_image_about_once(monkeypatch):
    """Memory for 10 of 40 images; a mosaic needs 4 tiles, so 640 reads without it."""
    monkeypatch.setattr("keras_spd.data.detection.batches._CACHE_BYTES", 10 * 60_000)
    monkeypatch.setattr("keras_spd.data.detection.batches.WINDOW", 8)
    wide = [boxed(str(number), (100, 200), [(90, 40, 110, 60)]) for number in range(40)]
    tiles = counted(*wide).tiles(100, 0.5, min_area=0, empty=1)
    mosaic = DetectionAugmentation(mosaic=1.0)
    batches = DetectionBatches(tiles, 4, (64, 64), shuffle=True, augmentation=mosaic, workers=1)
    for batch in range(len(batches)):
        batches.load(0, batch)
    assert 40 <= Counted.reads < 60


def test_an_epoch_decodes_a_few_images_at_a_time(rng):
    """Tiles in random order, but of three images (3 * 100 * 200 bytes) before the next three."""
    wide = [boxed(str(number), (100, 200), [(90, 40, 110, 60)]) for number in range(10)]
    tiles = dataset(*wide).tiles(100, 0.5, min_area=0, empty=1).images
    assert len(tiles) == 30
    order = random_order(tiles, rng, 3 * 60_000)
    assert sorted(order) == list(range(30)) and (np.diff(order) != 1).any()
    groups = [
        {tiles[index].whole for index in order[start : start + 9]} for start in (0, 9, 18, 27)
    ]
    assert [len(group) for group in groups] == [3, 3, 3, 1] and set().union(*groups) == set(wide)
    first = [tiles[index].whole for index in order[:9]]
    assert any(one is not other for one, other in zip(first[::3], first[1::3], strict=True))
    again, other = (random_order(tiles, np.random.default_rng(seed), 180_000) for seed in (0, 1))
    assert order.tolist() == again.tolist() != other.tolist()
    # An image larger than the limit is alone; images that are not cut are shuffled as ever.
    assert len({tiles[index].whole for index in random_order(tiles, rng, 1)[:3]}) == 1
    whole = random_order(wide, np.random.default_rng(3), 1)
    assert whole.tolist() == np.random.default_rng(3).permutation(10).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 31}, "`tile` must be one or two integers of at least 32 pixels"),
        ({"size": 64, "overlap": 0.6}, "`overlap` must be between 0 and 0.5"),
        ({"size": 64, "min_area": 2}, "`min_area` must be between 0 and 1"),
        ({"size": 64, "empty": -1}, "`empty` must be between 0 and 1"),
        ({"size": 32, "overlap": 0}, "No object has 50% of its area in a tile of 32x32"),
    ],
)
def test_bad_arguments(arguments, message):
    data = dataset(boxed("one", (100, 100), [(0, 0, 90, 90)]))
    with pytest.raises(ValueError, match=message):
        data.tiles(**arguments)
    if arguments.get("overlap") == 0:
        assert data.tiles(32, 0, empty=0, whole=True).num_images == 1


def test_tiles_are_not_cut_again():
    tiles = dataset(boxed("one", (100, 100), [(0, 0, 40, 40)])).tiles(64)
    with pytest.raises(ValueError, match="These are tiles already"):
        tiles.tiles(32)


def test_prediction_and_recipes_have_the_same_defaults():
    defaults = inspect.signature(DetectionData.tiles).parameters
    fields = DetectionSource.model_fields
    for name in ("overlap", "min_area", "empty", "whole"):
        assert fields[f"tile_{name}"].default == defaults[name].default
    assert inspect.signature(Predictor).parameters["overlap"].default == 0.2
