"""Tiles of large images: full coverage, and objects on a seam are found once."""

import dataclasses
import io
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

import keras_spd
from keras_spd.boxes import area, intersection, intersection_over_union
from keras_spd.images.tiles import tile_corners
from keras_spd.predict.tiles import CUT, IN_IMAGE, IN_TILE, Grid, is_cut, merge


@pytest.mark.parametrize("size", [(100, 100), (640, 1000), (641, 640), (1999, 77), (1280, 1280)])
@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.5])
def test_every_pixel_is_covered_with_the_overlap(size, overlap):
    corners = tile_corners(size, (640, 640), overlap)
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in corners})
        assert starts[0] == 0 and starts[-1] == max(size[axis] - 640, 0)
        for first, second in zip(starts, starts[1:], strict=False):
            assert first + 640 - second >= 640 * overlap - 1
    assert len(corners) == len(set(corners))


def test_what_an_edge_cuts():
    boxes = np.array([[10.0, 10, 20, 20], [50, 10, 100, 20], [0, 0, 5, 5], [50, 99, 60, 100]])
    assert is_cut(boxes, (0, 0), (100, 100), (100, 200)).tolist() == [False, True, False, False]
    assert is_cut(boxes + [100, 0, 100, 0], (0, 100), (100, 100), (100, 200)).tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_one_box_for_an_object_that_several_tiles_have_seen():
    boxes = np.array(
        [
            [80.0, 10, 120, 50],  # whole
            [80, 10, 100, 50],  # its left half, cut, and more confident
            [81, 11, 120, 50],  # from the image as a whole: it is large
            [80, 10, 120, 50],  # of another class
            [90, 60, 100, 90],  # cut, and not found elsewhere
        ]
    )
    confidence = np.array([0.6, 0.9, 0.5, 0.4, 0.7])
    classes = np.array([0, 0, 0, 1, 0])
    seen = np.array([IN_TILE, CUT, IN_IMAGE, IN_TILE, CUT])
    decoder = keras_spd.detection.Decoder()
    assert merge(boxes, confidence, classes, seen, decoder).tolist() == [4, 2, 3]
    assert merge(boxes[:0], confidence[:0], classes[:0], seen[:0], decoder).tolist() == []
    agnostic = dataclasses.replace(decoder, class_agnostic=True)
    assert merge(boxes, confidence, classes, seen, agnostic).tolist() == [4, 2]


@pytest.mark.parametrize("side", [20, 150])
def test_merging_compares_all_boxes(side, rng):
    """Against a loop over the boxes, from the best to the worst."""
    corners = rng.uniform(0, 300, (300, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, side, (300, 2))], axis=1)
    confidence, classes = rng.uniform(size=300).round(2), rng.integers(0, 2, 300)
    seen, decoder = rng.integers(0, 3, 300), keras_spd.detection.Decoder(iou_threshold=0.3)
    left, kept = np.lexsort((-confidence, seen)), []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        same = intersection_over_union(boxes[best], boxes[left], np) > 0.3
        half = intersection(boxes[best], boxes[left], np) > 0.5 * area(boxes[left], np)
        same |= (seen[left] == CUT) & half
        left = left[~(same & (classes[left] == classes[best]))]
    expected = np.array(kept)[np.argsort(-confidence[kept], kind="stable")]
    received = merge(boxes, confidence, classes, seen, decoder)
    assert received.tolist() == expected.tolist() and len(received) < 300


class BrightSpots:
    """Finds white rectangles on black, and cuts them at the edge of its input."""

    name = "spots"
    num_classes = 1
    stride = 32
    image_sizes = None
    info = keras_spd.applications.ModelInfo(input_range=(0, 255))
    decoder = keras_spd.detection.Decoder()
    bounding_box_format = "xyxy"

    def __init__(self):
        self.largest_batch = 0

    def predict_on_batch(self, images):
        from scipy import ndimage

        self.largest_batch = max(self.largest_batch, len(images))
        count = self.decoder.max_detections
        boxes, confidence = (
            np.full((len(images), count, 4), -1.0),
            np.full((len(images), count), -1.0),
        )
        numbers = np.zeros(len(images), int)
        for index, image in enumerate(images):
            spots = ndimage.find_objects(ndimage.label(np.asarray(image)[..., 0] > 180)[0])
            for place, (rows, columns) in enumerate(spots[:count]):
                boxes[index, place] = columns.start, rows.start, columns.stop, rows.stop
                confidence[index, place] = 0.9 - 0.001 * place
            numbers[index] = len(spots)
        classes = np.where(confidence > 0, 0, -1)
        return {
            "boxes": boxes,
            "confidence": confidence,
            "classes": classes,
            "num_detections": numbers,
        }


def draw_spots(size, step):
    """White rectangles of 4 to 20 pixels on black, and their boxes."""
    image, boxes = np.zeros((*size, 3), "uint8"), []
    random = np.random.default_rng(0)
    for top in range(10, size[0] - 20, step):
        for left in range(10, size[1] - 20, step):
            height, width = random.integers(4, 20, 2)
            image[top : top + height, left : left + width] = 255
            boxes.append((left, top, left + width, top + height))
    return image, boxes


def test_what_counts_in_the_whole_image():
    boxes = np.array(
        [
            [10.0, 10, 40, 40],  # small
            [50, 50, 250, 250],  # complete in a tile
            [250, 10, 450, 60],  # in no tile
            [100, 100, 600, 600],  # larger than a tile
        ]
    )
    counts = [
        Grid((1000, 1000), (400, 400), 0.2, trained)._belongs_to_whole(boxes).tolist()
        for trained in (False, True)
    ]
    assert counts == [[False, True, True, True], [False, False, True, True]]


def test_a_detector_of_tiles_finds_what_is_complete_in_a_tile_there():
    """A box found in the whole image, at a lower resolution, is less exact."""
    pytest.importorskip("scipy")
    model, box = BrightSpots(), (51, 51, 251, 251)
    image = np.zeros((600, 600, 3), "uint8")
    image[51:251, 51:251] = 255
    exact = []
    for tile in (None, (416, 416)):
        model.info = dataclasses.replace(model.info, tile=tile, image_size=(416, 416))
        [found] = keras_spd.Predictor(model, tile=416)(image)
        assert len(found) == 1
        exact.append(tuple(found.boxes[0].tolist()) == box)
    assert exact == [False, True]


@pytest.mark.parametrize("step", [45, 130])
def test_without_overlap_only_objects_on_seams_come_from_the_whole_image(step):
    """Small objects are found in the whole image as well, but badly."""
    pytest.importorskip("scipy")
    image, expected = draw_spots((900, 1300), step)
    [found] = keras_spd.Predictor(BrightSpots(), tile=320, overlap=0)([image])
    exact = set(map(tuple, found.boxes.tolist())) & set(expected)
    on_seams = len(expected) - len(exact)
    assert len(exact) > 0.7 * len(expected) and len(found) - len(exact) <= 1.5 * on_seams


@pytest.mark.parametrize(
    ("size", "step", "tile"), [((900, 1300), 60, 320), ((2000, 3000), 190, 640)]
)
def test_objects_on_seams_are_found_once(size, step, tile):
    pytest.importorskip("scipy")
    image, expected = draw_spots(size, step)
    model = BrightSpots()
    predictor = keras_spd.Predictor(model, tile=tile, overlap=0.2, batch_size=4)
    [found] = predictor([image])
    assert sorted(map(tuple, found.boxes.tolist())) == sorted(expected)
    [two] = keras_spd.Predictor(model, tile=tile, batch_size=4, max_detections=2)([image])
    assert len(two) == 2
    assert model.largest_batch == 4  # however many tiles there are


def boxed_spots(name, size, step):
    image, boxes = draw_spots(size, step)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    boxes = np.array(boxes, "float32")
    classes, crowd = np.zeros(len(boxes), "int32"), np.zeros(len(boxes), bool)
    return keras_spd.data.BoxedImage(name, name, file.getvalue, size, boxes, classes, crowd)


def test_scores_of_whole_images_predicted_in_tiles():
    """AP is 1: each object is found once, at its place in the whole image."""
    pytest.importorskip("scipy")
    sizes = {"large": (900, 1300), "small": (200, 320), "wide": (320, 1000)}
    images = tuple(boxed_spots(name, size, 130) for name, size in sizes.items())
    data = keras_spd.data.DetectionData(images, ("spot",), (0,))
    model = BrightSpots()
    before = model.decoder
    whole = keras_spd.evaluate(model, data, 320)
    scores = keras_spd.evaluate(model, data, 320, tile=320, batch_size=4)
    assert whole.metrics["AP"] < 0.6 and scores.metrics["AP"] == pytest.approx(1)
    # By side in pixels of the network, which sees every tile at its own size.
    sides = [np.sqrt((i.boxes[:, 2:] - i.boxes[:, :2]).prod(axis=1)) for i in images]
    assert (
        scores.by_side["<8"]["boxes"]
        == (np.concatenate(sides) < 8).sum()
        < whole.by_side["<8"]["boxes"]
    )
    assert model.decoder is before


def test_every_object_of_a_crowded_image_counts(caplog):
    """COCO's scores stop at 100 objects of a class in an image, and AP at 0.7."""
    pytest.importorskip("scipy")
    image = boxed_spots("crowded", (600, 600), 50)
    data = keras_spd.data.DetectionData((image,), ("spot",), (0,))
    assert len(image.boxes) == 144
    with caplog.at_level("INFO"):
        scores = keras_spd.evaluate(BrightSpots(), data, 320, tile=320)
    assert scores.metrics["AP"] == pytest.approx(1)
    assert scores.by_side["8-16"]["AP"] == pytest.approx(1)
    assert "An image has 144 boxes of a class: AP counts as many detections" in caplog.text


def test_the_scale_of_tiles():
    assert keras_spd.Predictor(BrightSpots(), tile=640).scale((900, 1300)) == 1
    assert keras_spd.Predictor(BrightSpots(), tile=640).scale((320, 320)) == 2


@pytest.mark.slow
def test_small_images_are_not_cut():
    model = keras_spd.applications.YOLOV5SPD("n", weights="bccd")
    folder = pathlib.Path(keras_spd.data.__file__).parent / "detection" / "small_cells" / "images"
    image = folder / "BloodImage_00001.jpg"
    [plain] = keras_spd.Predictor(model, 320, confidence_threshold=0.01)([image])
    assert len(plain) > 3
    [tiled] = keras_spd.Predictor(model, tile=320, confidence_threshold=0.01)([image])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(tiled.boxes), plain.boxes, rtol=1e-5, atol=1e-3
    )


def test_a_detector_of_tiles_asks_for_tiles(caplog):
    model = BrightSpots()
    model.info = dataclasses.replace(model.info, tile=(64, 96))
    image = np.zeros((200, 300, 3), "uint8")
    keras_spd.Predictor(model, 64, tile=64)(image)
    keras_spd.Predictor(model, 64)(image[:64, :96])
    assert not caplog.records
    predictor = keras_spd.Predictor(model, 64)
    for _ in range(2):
        predictor(image)
    assert [record.getMessage() for record in caplog.records] == [
        "The detector was trained on tiles of 64x96 pixels, and images are larger: pass "
        "`--tile 64x96` (in Python, `tile=`)."
    ]


def test_the_network_is_as_large_as_a_tile():
    assert keras_spd.Predictor(BrightSpots(), tile=(300, 320)).image_size == (320, 320)


def test_tiles_are_seen_as_in_training():
    model = BrightSpots()
    model.info = dataclasses.replace(model.info, tile=(64, 64), image_size=(128, 128))
    assert keras_spd.Predictor(model, tile=64).image_size == (128, 128)
    assert keras_spd.Predictor(model, tile=96).image_size == (96, 96)
    assert keras_spd.Predictor(model, 64, tile=64).image_size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile": 0}, "`tile` must be one or two integers of at least 32 pixels"),
        ({"tile": (320, 320, 3)}, "`tile` must be"),
        ({"tile": 320, "overlap": 0.9}, "`overlap` must be between 0 and 0.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_spd.Predictor(BrightSpots(), **arguments)
