"""`describe_detection`: the report of `keras-spd check-data`."""

import dataclasses
import json

import pytest
from PIL import Image

from keras_spd.data import load_detection
from keras_spd.data.detection.check import describe_detection, format_description

FITTED = "Anchors fitted to these boxes"


def boards(folder, boxes, size=(64, 64)):
    Image.new("RGB", size[::-1]).save(folder / "a.png")
    Image.new("RGB", size[::-1]).save(folder / "empty.png")
    content = {
        "images": [
            {"id": i, "file_name": name, "height": size[0], "width": size[1]}
            for i, name in enumerate(("a.png", "empty.png"))
        ],
        "annotations": [
            {"id": i, "image_id": 0, "category_id": 7, "bbox": box} for i, box in enumerate(boxes)
        ],
        "categories": [{"id": 7, "name": "scratch"}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    return load_detection(folder / "labels.json")


@pytest.mark.parametrize(
    ("boxes", "recall", "sides"),
    [
        ([[4 * i, 4 * i, 10 + i / 2, 12] for i in range(12)], 1.0, [0, 12, 0, 0]),
        ([[4 * i, 0, 1, 50 + i] for i in range(12)], 0.0, [12, 0, 0, 0]),
    ],
    ids=["squares", "scratches"],
)
def test_anchors_are_suggested_where_the_defaults_miss(boxes, recall, sides, tmp_path):
    report = describe_detection(boards(tmp_path, boxes), (64, 64))
    assert report["best_possible_recall"] == recall
    assert list(report["boxes_by_side"].values()) == sides
    assert report["boxes_by_class"] == {"scratch": 12}
    text = format_description(report)
    assert "2 images, 1 of them without a box; 12 boxes" in text
    assert "Without a box: " in text
    assert f"{tmp_path / 'empty.png'}" in text
    assert (FITTED in text) == (", which is too few" in text) == (recall < 0.98)


def test_data_without_boxes(tmp_path):
    report = describe_detection(boards(tmp_path, []), (64, 64))
    assert report["boxes"] == 0
    assert "best_possible_recall" not in report
    assert "2 images, 2 of them without a box; 0 boxes" in format_description(report)


@pytest.mark.parametrize(
    ("side", "image_size", "words"),
    [
        (12, 320, "The input size is large enough: 9 of 10 boxes have a side of 8 pixels"),
        (12, 640, "Suggested input: 320x320, the smallest of 320, 416"),
        (1, 320, "Suggested input: 512x512"),
    ],
)
def test_the_input_size(side, image_size, words, tmp_path):
    data = boards(tmp_path, [[4 * i, 4 * i, side, side] for i in range(12)])
    assert words in format_description(describe_detection(data, (image_size, image_size)))


@pytest.mark.parametrize(
    ("largest", "words"),
    [
        (10, """P2 head instead of P5, as no box is large, `--set 'model.options.levels=["P2", """),
        (50, """P2 head, `--set 'model.options.levels=["P2", "P3", "P4", "P5"]'`"""),
    ],
)
def test_the_levels(largest, words, tmp_path):
    boxes = [[4 * i, 4 * i, 1, 1] for i in range(12)] + [[0, 0, largest, largest]]
    data = boards(tmp_path, boxes)
    assert words in format_description(describe_detection(data, (640, 640)))


@pytest.mark.parametrize(
    ("size", "side", "words"),
    [
        ((1000, 1500), 16, "half of the boxes are below 6.8 pixels at 640x640, and below 16.0 in"),
        ((1000, 1500), 90, "Tiles are not needed: half of the boxes have 38.4 pixels or more"),
        ((600, 900), 16, "`--image-size 928` shows whole images without shrinking them"),
        (
            (600, 700),
            16,
            "Tiles would hardly enlarge the boxes: half of them are below 16.0 pixels with",
        ),
        ((64, 64), 16, "No image is larger than a tile of 640x640, so tiles change nothing."),
    ],
)
def test_when_tiles_pay(size, side, words, tmp_path):
    data = boards(tmp_path, [[4 * i, 4 * i, side, side] for i in range(8)], size)
    report = describe_detection(data, (640, 640))
    text, in_tiles = (
        format_description(one)
        for one in (report, describe_detection(data, (640, 640), (640, 640)))
    )
    assert words in in_tiles and (words in text) == (size != (64, 64))
    if "below 6.8" in words:
        assert "In tiles of 640x640: <8: 0, 8-16: 0, 16-32: 8, >=32: 0; half below 16.0" in text
        assert "at 640x640, in tiles of 640x640: <8: 0, 8-16: 0, 16-32: 8, >=32: 0" in in_tiles
        assert "Without tiles: <8: 8, 8-16: 0, 16-32: 0, >=32: 0; half below 6.8" in in_tiles
        assert report["tiles"]["larger_images"] == 2


def test_objects_that_no_tile_holds(tmp_path):
    data = boards(tmp_path, [[0, 0, 64, 64]], (128, 128))
    text = format_description(describe_detection(data, (64, 64), (32, 32), 0))
    assert "Tiles of 32x32 are too small: no object has half of its area in one." in text
    text = format_description(describe_detection(data, (64, 64), (64, 64), 0.5))
    assert "100% of the boxes are larger than the overlap" in text and "tile_whole=true" in text


def test_boxes_that_are_too_small_at_every_size(tmp_path):
    data = boards(tmp_path, [[4 * i, 4 * i, 6, 6] for i in range(12)], (1500, 2000))
    text = format_description(describe_detection(data, (640, 640)))
    assert "Even at 1280x1280, more than 1 of 10 boxes is below 8 pixels" in text


def test_classes_without_boxes_are_named_once(tmp_path):
    data = boards(tmp_path, [[0, 0, 12, 12]])
    names = ("scratch", *(f"class{i}" for i in range(9)))
    text = format_description(describe_detection(dataclasses.replace(data, class_names=names)))
    assert "scratch 1; none of 9 classes (class0, class1, class2, class3, class4, ...)\n" in text
