"""Decoding and NMS against the authors'."""

import dataclasses
import json

import numpy as np
import pytest
import reference
from keras import ops

from keras_spd.detection import Decoder, decode
from keras_spd.detection.anchors import DEFAULT_ANCHORS

SETTINGS = {
    "multilabel_conf0.05_iou0.65_max300": Decoder(0.05, 0.65, 300),
    "singlelabel_conf0.25_iou0.45_max100": Decoder(0.25, 0.45, 100, multi_label=False),
    "agnostic_conf0.25_iou0.45_max100": Decoder(
        0.25, 0.45, 100, multi_label=False, class_agnostic=True
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_authors_suppression(name):
    arrays = dict(np.load(reference.FIXTURES / "yolov5" / "nms.npz"))
    found = SETTINGS[name].suppress(ops.convert_to_tensor(arrays["decoded"]))
    found = {key: np.array(value) for key, value in found.items()}
    for image in range(2):
        expected = arrays[f"{name}_image{image}_xyxy_conf_class"]
        count = found["num_detections"][image]
        assert count == len(expected)
        actual = np.column_stack(
            [found[key][image, :count] for key in ("boxes", "confidence", "classes")]
        )
        np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("size", ["n", "s"])
def test_authors_decoding(size):
    arrays = dict(np.load(reference.FIXTURES / "yolov5" / f"yolov5_spd_{size}.npz"))
    levels = ("P3", "P4", "P5")
    raw = {level: arrays[f"raw_{level.lower()}"].transpose(0, 2, 3, 1, 4) for level in levels}
    actual = np.array(decode(raw, DEFAULT_ANCHORS))
    # The authors put the anchor before row and column.
    start, ordered = 0, []
    for level in levels:
        images, rows, columns, anchors, outputs = raw[level].shape
        part = actual[:, start : start + rows * columns * anchors]
        start += part.shape[1]
        part = part.reshape(images, rows, columns, anchors, outputs).transpose(0, 3, 1, 2, 4)
        ordered.append(part.reshape(images, -1, outputs))
    difference = np.concatenate(ordered, axis=1) - arrays["decoded"]
    assert reference.relative_norm(difference, arrays["decoded"]) <= 1e-4


def make_decoded(*rows):
    return ops.convert_to_tensor(np.array([rows], "float32"))


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("classes", [1, 3])
def test_the_same_with_and_without_xla(name, classes, rng):
    """TensorFlow has an operator of its own, which XLA cannot compile."""
    decoder = dataclasses.replace(SETTINGS[name], max_detections=20)
    corner, side = rng.uniform(0, 90, (2, 200, 2)), rng.uniform(5, 40, (2, 200, 2))
    decoded = np.concatenate([corner, side, rng.random((2, 200, 1 + classes))], axis=-1)
    decoded[1, 8:] = 0  # fewer than 20 in the second image
    decoded = ops.convert_to_tensor(decoded.astype("float32"))
    eager, compiled = decoder.suppress(decoded), decoder.suppress(decoded, jit_compile=True)
    for key, value in eager.items():
        np.testing.assert_allclose(np.array(value), np.array(compiled[key]), atol=1e-4)
        assert value.dtype == compiled[key].dtype
    assert np.array(eager["num_detections"]).tolist()[0] == 20


def test_nothing_found_and_places_are_padded():
    found = Decoder(0.5, 0.5, 3).suppress(make_decoded([9, 9, 4, 4, 0.6, 0.6, 0.1]))
    assert int(found["num_detections"][0]) == 0
    for key in ("boxes", "confidence", "classes"):
        assert (np.array(found[key]) == -1).all()


def test_a_box_without_area_does_not_come_back():
    found = Decoder(0.1, 0.5, 5).suppress(make_decoded([9, 9, 0, 0, 1, 0.9, 0.0]))
    assert int(found["num_detections"][0]) == 1


def test_classes_do_not_suppress_each_other():
    rows = [9, 9, 4, 4, 1, 0.9, 0.8], [9, 9, 4, 4, 1, 0.7, 0.0]
    found = Decoder(0.1, 0.5, 5).suppress(make_decoded(*rows))
    assert np.array(found["classes"])[0].tolist() == [0, 1, -1, -1, -1]
    agnostic = Decoder(0.1, 0.5, 5, class_agnostic=True).suppress(make_decoded(*rows))
    assert int(agnostic["num_detections"][0]) == 1


def test_format_of_the_boxes():
    raw = {"P3": np.zeros((1, 4, 8, 1, 6), "float32")}
    raw["P3"][0, 1, 2, 0, 4:] = 5
    decoder = Decoder(0.5, 0.5, 2)
    xyxy = decoder(raw, {"P3": ((10, 20),)})
    np.testing.assert_allclose(np.array(xyxy["boxes"])[0, 0], [15, 2, 25, 22], atol=1e-4)
    relative = decoder(raw, {"P3": ((10, 20),)}, "rel_xywh")
    np.testing.assert_allclose(
        np.array(relative["boxes"])[0, 0], [15 / 64, 2 / 32, 10 / 64, 20 / 32], atol=1e-4
    )
    assert (np.array(relative["boxes"])[0, 1] == -1).all()


@pytest.mark.parametrize(
    "options", [{"confidence_threshold": 1.5}, {"iou_threshold": -1}, {"max_detections": 0}]
)
def test_bad_thresholds(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Decoder(**options)


def test_thresholds_of_numpy():
    decoder = Decoder(np.float32(0.5), np.float64(0.4), np.int64(9))
    assert json.loads(json.dumps(dataclasses.asdict(decoder)))["max_detections"] == 9
