"""The decoding inside exported files, without a file."""

import keras
import numpy as np
import pytest

from keras_spd.boxes import intersection_over_union
from keras_spd.detection import Decoder
from keras_spd.detection.heads import YOLOV5Head

if keras.backend.backend() != "tensorflow":
    pytest.skip("exported files are TensorFlow's", allow_module_level=True)
from keras_spd.export.detections import BuiltinDetections, move_apart

CLASSES, SIDE = 1203, 1280  # LVIS's number of classes


def test_classes_are_moved_apart_exactly(rng):
    """Overlaps within a class hold to 1e-3, for boxes of 4 pixels too; others have none."""
    corners = rng.uniform(0, SIDE - 40, (500, 2))
    first = np.concatenate([corners, corners + rng.uniform(4, 40, (500, 2))], axis=1)
    first[:2] = [-400, -300, 500, 900], [600, 500, SIDE + 700, SIDE + 500]  # beyond the image
    second = first + rng.uniform(-3, 3, (500, 4))
    classes = rng.integers(0, CLASSES, 500)
    classes[-4:] = 0, 1, CLASSES - 2, CLASSES - 1
    boxes = np.concatenate([first, second]).astype("float32")
    twice = np.concatenate([classes, classes]).astype("int32")
    moved = np.array(move_apart(boxes, twice, CLASSES), "float64")

    sides = np.diff(moved.reshape(-1, 2, 2), axis=1) - np.diff(boxes.reshape(-1, 2, 2), axis=1)
    assert np.abs(sides).max() < 0.01  # pixels
    overlaps = intersection_over_union(boxes[:500], boxes[500:], np)
    apart = intersection_over_union(moved[:500], moved[500:], np)
    assert np.abs(overlaps - apart).max() < 1e-3
    every = intersection_over_union(moved[:, None], moved[None], np)
    assert every[twice[:, None] != twice[None]].max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"class_agnostic": True}, {"multi_label": False}])
def test_the_boxes_are_those_of_the_decoder(options, rng):
    """Small objects of late classes, whose neighbours overlap by about the threshold."""
    classes = 80  # more take long; how exactly they are moved apart is tested above
    head = YOLOV5Head.build(["P3"], {"P3": ((6, 6), (7, 5))})
    raw = np.full((1, 4, SIDE // 8, 2, 5 + classes), -12, "float32")
    raw[..., :4] = rng.uniform(-0.4, 0.4, raw[..., :4].shape)
    cells = rng.permutation(4 * SIDE // 8)[:150]
    for cell in cells:
        row, column = divmod(cell, SIDE // 8)
        raw[0, row, column, :, 4] = rng.uniform(0, 3, 2)
        raw[0, row, column, :, 5 + classes - 1 - rng.integers(0, 2)] = rng.uniform(1, 3)
    decoder = Decoder(0.25, 0.45, **options)
    expected = decoder({"P3": raw}, head.anchors)
    received = BuiltinDetections(decoder, head, "xyxy")({"P3": raw})
    count = int(expected["num_detections"][0])
    assert 100 < count < 300 and int(received["num_detections"][0]) == count
    for key, tolerance in (("confidence", 1e-6), ("boxes", 1e-3), ("classes", 0)):
        np.testing.assert_allclose(
            np.array(received[key])[0, :count], np.array(expected[key])[0, :count], atol=tolerance
        )
