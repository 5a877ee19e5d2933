"""One interface for detectors in Keras, in TFLite files and in tests."""

import keras
import numpy as np
import pytest
from bright import BrightBox

import keras_spd
from keras_spd.applications import YOLOV5SPD
from keras_spd.detection import DetectorProtocol
from keras_spd.image_model import ClassifierProtocol


@pytest.mark.slow
def test_detectors_follow_the_protocol():
    for detector in (YOLOV5SPD((0.33, 0.125), classes=1), BrightBox()):
        assert isinstance(detector, DetectorProtocol)


def test_models_that_are_not_detectors_are_refused():
    images = keras.Input((8, 8, 3))
    classifier = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(images)))
    assert isinstance(classifier, ClassifierProtocol)
    for model in (classifier, 42):
        assert not isinstance(model, DetectorProtocol)
        with pytest.raises(ValueError, match=f"A detector is needed.*{type(model).__name__}"):
            keras_spd.Predictor(model)
    with pytest.raises(ValueError, match="A classifier is needed.*BrightBox"):
        keras_spd.predict.Classifier(BrightBox())


@pytest.mark.slow
def test_files_follow_the_protocols(tmp_path):
    from keras_spd.export import export_tflite
    from keras_spd.export.exported_models import load_exported

    images = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(images))
    info = keras_spd.applications.ModelInfo(input_range=(0, 255))
    classifier = keras_spd.applications.ImageModel(images, outputs, info=info)
    export_tflite(classifier, tmp_path / "classifier.tflite")
    assert isinstance(load_exported(tmp_path / "classifier.tflite"), ClassifierProtocol)

    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(18, 8, 8, name="head")(images)
    network = keras.Model(images, {"P3": keras.layers.Reshape((4, 4, 3, 6))(x)})
    anchors = {"P3": ((8, 8), (16, 16), (24, 24))}
    detector = keras_spd.applications.Detector(network, anchors)
    export_tflite(detector, tmp_path / "detector.tflite")
    file = load_exported(tmp_path / "detector.tflite")
    assert isinstance(file, DetectorProtocol)
    found = file.predict_on_batch(np.zeros((1, 32, 32, 3), "float32"))
    assert set(found) == {"boxes", "confidence", "classes", "num_detections"}
