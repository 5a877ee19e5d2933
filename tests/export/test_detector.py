"""Detectors as TFLite files: builtin operators, the boxes of Keras, and int8 accuracy."""

import dataclasses
import json
import logging
import zipfile

import keras
import numpy as np
import pytest
from backend_outputs import numpy_weights
from conftest import find_shared

import keras_spd
from keras_spd.applications import YOLOV5SPD
from keras_spd.export import export_tflite, verify_tflite
from keras_spd.export.exported_models import load_exported
from keras_spd.export.metadata import read_metadata
from keras_spd.predict import load_detector

SIZE = (96, 128)


def detector(confidence=0.02, **options):
    """Trained, so that its boxes differ, and unsure, so that there are many."""
    model = YOLOV5SPD("n", weights="bccd", **options)
    model.decoder = dataclasses.replace(model.decoder, confidence_threshold=confidence)
    return model


@pytest.fixture
def images(rng):
    """Blots on a bright ground, which the detector takes for cells."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    images = np.full((4, *SIZE, 3), 220.0, "float32")
    for image in images:
        for _ in range(4):
            centre, radius = rng.uniform((10, 10), SIZE), rng.uniform(6, 25)
            blot = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            image[blot] = rng.uniform(60, 200, 3)
    return images.round()


def operators(path):
    from ai_edge_litert.interpreter import Interpreter

    return [op["op_name"] for op in Interpreter(model_path=str(path))._get_ops_details()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The trained detector and its file."""
    model = detector()
    path = tmp_path_factory.mktemp("trained") / "detector.tflite"
    return model, export_tflite(model, path, image_size=SIZE)


@pytest.mark.slow
def test_the_boxes_are_those_of_keras(trained, images):
    assert_same_boxes(*trained, images, batch_size=1, downsampling="spd")


@pytest.mark.slow
def test_the_boxes_of_another_detector(tmp_path, images):
    """Strided, with one class on one level, other format and range, two images at a time."""
    model = YOLOV5SPD(
        "n",
        classes=1,
        levels=("P3",),
        downsampling="strided",
        bounding_box_format="rel_xywh",
        include_rescaling=False,
    )
    numpy_weights(model)  # scores that are not all alike
    path = export_tflite(model, tmp_path / "detector.tflite", image_size=SIZE, batch_size=2)
    assert_same_boxes(model, path, images, batch_size=2, downsampling="strided")


def assert_same_boxes(model, path, images, batch_size, downsampling):
    exported = load_detector(path)
    for batch in (images, images[:3]):
        low, high = model.info.input_range
        ours = model.predict_on_batch(batch * ((high - low) / 255) + low)
        theirs = exported.predict_on_batch(batch)
        counts = np.array(ours["num_detections"])
        assert counts.sum() > 5
        np.testing.assert_array_equal(theirs["num_detections"], counts)
        for row, count in enumerate(counts):  # boxes below, in any order where scores are tied
            np.testing.assert_allclose(
                theirs["confidence"][row, :count], ours["confidence"][row, :count], atol=1e-5
            )
    assert verify_tflite(path, model, images, tolerance=1e-2).agreement == 1.0
    names = operators(path)
    assert names.count("SPACE_TO_DEPTH") == {"spd": 7, "strided": 0}[downsampling]
    assert names.count("NON_MAX_SUPPRESSION_V5") == batch_size


@pytest.mark.slow
def test_what_is_in_the_file(trained, images, caplog):
    model, path = trained
    assert not list(path.parent.glob("*unfinished*"))
    record = read_metadata(path.read_bytes())
    assert record["class_names"] == ["RBC", "WBC", "Platelets"]
    assert record["image_size"] == list(SIZE) and record["confidence_threshold"] == 0.02

    with zipfile.ZipFile(path) as archive:  # as a device reads it
        assert archive.read("labels.txt").decode().splitlines() == record["class_names"]
        assert json.loads(archive.read("keras_spd.json")) == record

    comparison = verify_tflite(path, model, images)
    assert comparison.agreement == 1.0 and comparison.max_difference < 1e-3
    other = detector()
    other.set_weights([0.9 * weight for weight in model.get_weights()])
    with pytest.raises(ValueError, match="detector.tflite differs from `yolov5_spd_n`"):
        verify_tflite(path, other, images)

    pixels = images[0].astype("uint8")
    [ours] = keras_spd.Predictor(model, SIZE)([pixels])
    [theirs] = keras_spd.Predictor(path)([pixels])
    assert theirs.class_names == ours.class_names
    np.testing.assert_allclose(theirs.boxes, ours.boxes, atol=1e-2)
    [few] = keras_spd.Predictor(path, confidence_threshold=0.1)([pixels])
    assert 0 < len(few) < len(theirs) and few.confidence.min() > 0.1
    with caplog.at_level(logging.WARNING):
        keras_spd.Predictor(path, iou_threshold=0.9)([pixels])
        keras_spd.Predictor(path, max_detections=1000)([pixels])
    assert "thresholds it was exported with, confidence 0.02 and IoU 0.45" in caplog.text
    assert "at most as many boxes per image as it was exported with, 300" in caplog.text
    assert keras_spd.Predictor(path).decoder == model.decoder
    exported = load_exported(path)
    with caplog.at_level(logging.WARNING):
        exported.decoder = dataclasses.replace(exported.decoder, multi_label=False)
    assert "keeps the `class_agnostic` and `multi_label` it was exported with" in caplog.text
    with pytest.raises(ValueError, match=r"images of \(96, 128\) only"):
        keras_spd.Predictor(path, 320)


@pytest.mark.slow
def test_8_bits_hold(tmp_path):
    """AP within a point of float32, on the cells the detector was tested on."""
    folder = find_shared("data/bccd/annotations")
    cells = keras_spd.data.load_detection(folder / "instances_train.json")
    batches = cells.batches(16, (320, 320))
    typical = [batch for _, (batch, _) in zip(range(4), batches, strict=False)]
    model = YOLOV5SPD("n", weights="bccd")
    model.decoder = dataclasses.replace(
        model.decoder, confidence_threshold=0.001, iou_threshold=0.65
    )
    path = tmp_path / "int8.tflite"
    export_tflite(model, path, quantization="int8", representative_data=typical)
    assert path.stat().st_size < 3e6
    exported = load_detector(path)
    ((_, details),) = exported.file.runners[1, 320, 320, 3].get_input_details().items()
    assert details["dtype"] == np.uint8  # unchanged pixels
    test = keras_spd.data.load_detection(folder / "instances_test.json")
    scores = keras_spd.evaluate(exported, test).metrics
    [expected] = [preset.scores for preset in keras_spd.list_models() if preset.name == "bccd"]
    assert scores["AP"] > expected["AP"] - 0.01
    assert scores["AP50"] > expected["AP50"] - 0.01


@pytest.mark.slow
def test_wrong_arguments(tmp_path, thin_networks):
    model = YOLOV5SPD((0.33, 0.125), classes=2)
    path = tmp_path / "detector.tflite"
    images = np.full((3, 64, 64, 3), 200.0)

    def export(**options):
        export_tflite(model, path, **{"image_size": (64, 64), **options})

    with pytest.raises(ValueError, match="`quantization` must be one of None, 'float16'"):
        export(quantization="int4")
    with pytest.raises(ValueError, match="needs `representative_data`"):
        export(quantization="int8")
    with pytest.raises(ValueError, match=r"images of shape \(64, 64, 3\).*Received: \(32, 64, 3\)"):
        export(quantization="int8", representative_data=images[:, ::2])
    with pytest.raises(ValueError, match="pixels from 0 to 255. Received: values from 0.78"):
        export(quantization="int8", representative_data=images / 255)
    with pytest.raises(ValueError, match="multiples of 32"):
        export(image_size=(60, 64))
    assert not path.exists()
    (tmp_path / "broken.tflite").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="Cannot load a TFLite model from .*broken.tflite"):
        load_detector(tmp_path / "broken.tflite")


@pytest.mark.slow
def test_operators_that_tflite_has_not(tmp_path):
    inputs = keras.Input((8, 8, 3))
    info = keras_spd.applications.ModelInfo(input_range=(0, 255))
    outputs = keras.ops.erfinv(keras.ops.tanh(inputs))
    model = keras_spd.applications.ImageModel(inputs, outputs, name="odd", info=info)
    with pytest.raises(ValueError, match="`odd` cannot be exported to TFLite.*no operator.*Erfinv"):
        export_tflite(model, tmp_path / "odd.tflite")
    assert not list(tmp_path.iterdir())
