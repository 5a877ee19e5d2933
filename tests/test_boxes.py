"""Formats, overlaps and letterboxing."""

import numpy as np
import pytest
from keras import ops

from keras_spd import boxes
from keras_spd.images.geometry import Letterbox


@pytest.mark.parametrize("name", boxes.BOX_FORMATS)
def test_every_format_returns(name, rng):
    corners = np.sort(rng.uniform(0, 60, (3, 5, 2, 2)).astype("float32"), axis=2).reshape(3, 5, 4)
    there = boxes.convert_boxes(corners, "xyxy", name, (50, 70))
    back = np.array(boxes.convert_boxes(there, name, "xyxy", (50, 70)))
    np.testing.assert_allclose(back, corners, atol=1e-4)
    if name != "xyxy":
        assert np.abs(np.array(there) - corners).max() > 1


def test_unknown_format():
    with pytest.raises(ValueError, match="'xyxy', 'yxyx'.*'coco'"):
        boxes.check_box_format("coco")


def test_intersection_over_union():
    box = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [2, 2, 2, 2]], "float32")
    other = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [5, 5, 6, 6], [2, 2, 2, 2]], "float32")
    np.testing.assert_allclose(
        np.array(boxes.intersection_over_union(box, other)), [1, 1 / 3, 0, 0], atol=1e-6
    )


def test_complete_iou_against_its_formula(rng):
    first, second = rng.uniform(2, 9, (2, 50, 4))
    x1, y1, w1, h1 = first.T
    x2, y2, w2, h2 = second.T
    width = np.minimum(x1 + w1 / 2, x2 + w2 / 2) - np.maximum(x1 - w1 / 2, x2 - w2 / 2)
    height = np.minimum(y1 + h1 / 2, y2 + h2 / 2) - np.maximum(y1 - h1 / 2, y2 - h2 / 2)
    shared = width.clip(0) * height.clip(0)
    iou = shared / (w1 * h1 + w2 * h2 - shared)
    outer_w = np.maximum(x1 + w1 / 2, x2 + w2 / 2) - np.minimum(x1 - w1 / 2, x2 - w2 / 2)
    outer_h = np.maximum(y1 + h1 / 2, y2 + h2 / 2) - np.minimum(y1 - h1 / 2, y2 - h2 / 2)
    v = 4 / np.pi**2 * (np.arctan(w1 / h1) - np.arctan(w2 / h2)) ** 2
    expected = iou - ((x1 - x2) ** 2 + (y1 - y2) ** 2) / (outer_w**2 + outer_h**2)
    expected -= v * v / (1 - iou + v)
    actual = boxes.complete_iou(
        ops.convert_to_tensor(first, "float32"), ops.convert_to_tensor(second, "float32")
    )
    np.testing.assert_allclose(np.array(actual), expected, rtol=1e-4, atol=1e-5)


def test_letterbox_and_back(rng):
    letterbox = Letterbox.fit((480, 640), (320, 416))
    assert letterbox.scale == pytest.approx(0.65)
    assert (letterbox.left, letterbox.top) == pytest.approx((0, 4))
    corners = np.array([[0, 0, 640, 480], [10.5, 20, 30, 41.25]])
    there = letterbox.to_network(corners)
    np.testing.assert_allclose(there[0], [0, 4, 416, 316])
    np.testing.assert_allclose(letterbox.to_image(there), corners, atol=1e-9)
    np.testing.assert_allclose(letterbox.to_image([[-5, 0, 500, 400]]), [[0, 0, 640, 480]])
