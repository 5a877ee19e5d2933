"""SavedModels: both signatures against the Keras model and its predictor."""

import base64
import dataclasses
import io
import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_spd
from keras_spd.applications import STATISTICS, YOLOV5SPD, ImageModel, ModelInfo, ResNet18SPD
from keras_spd.export import export_saved_model, verify_saved_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="SavedModels are written with TensorFlow"
)


def _file(pixels, kind):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def _answer(serve, files):
    """What TensorFlow Serving does with the request of docs/guides/devices.md: one row an image."""
    import tensorflow as tf

    instances = [{"b64": base64.b64encode(file).decode()} for file in files]
    request = json.loads(json.dumps({"signature_name": "encoded", "instances": instances}))
    ((argument, _),) = serve.structured_input_signature[1].items()
    contents = [base64.b64decode(instance["b64"]) for instance in request["instances"]]
    outputs = serve(**{argument: tf.constant(contents)})
    columns = {name: tensor.numpy().tolist() for name, tensor in outputs.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if len(columns) == 1:  # only the values
        rows = [value for row in rows for value in row.values()]
    return json.loads(json.dumps({"predictions": rows}))["predictions"]


@pytest.fixture
def classifier(thin_networks):
    model = ResNet18SPD(weights=None, classes=3, input_shape=(32, 32, 3))
    model.info = dataclasses.replace(
        model.info, statistics=STATISTICS["cifar10"], class_names=("red", "white", "blue")
    )
    return model


@pytest.mark.slow
def test_classifier(classifier, tmp_path, rng):
    import tensorflow as tf

    path = export_saved_model(classifier, tmp_path / "served")
    pixels = rng.integers(0, 256, (3, 32, 32, 3), dtype="uint8")
    comparison = verify_saved_model(path, classifier, pixels)
    assert comparison.images == 3 and comparison.max_difference < 1e-5

    serve = tf.saved_model.load(str(path)).signatures["encoded"]
    answers = _answer(serve, [_file(image, "PNG") for image in pixels])
    expected = classifier.predict(keras_spd.applications.preprocess_input(pixels), verbose=0)
    np.testing.assert_allclose(answers, expected, atol=1e-5)

    record = json.loads((path / "assets.extra" / "keras_spd.json").read_text())
    assert record["class_names"] == ["red", "white", "blue"] and record["takes_pixels"]
    assert [file.name for file in tmp_path.iterdir()] == ["served"]
    export_saved_model(classifier, path)  # replaces a SavedModel

    classifier.get_layer("logits").bias.assign([9, 0, 0])
    with pytest.raises(ValueError, match="differs from `resnet18_spd`"):
        verify_saved_model(path, classifier, pixels)


@pytest.mark.slow
def test_gray_images_have_no_encoded_signature(tmp_path, rng):
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(inputs))
    model = ImageModel(inputs, outputs, name="gray", info=ModelInfo(input_range=(0, 1)))
    path = export_saved_model(model, tmp_path / "served")
    pixels = rng.integers(0, 256, (3, 8, 8, 1), dtype="uint8")
    assert verify_saved_model(path, model, pixels).max_difference < 1e-5


@pytest.mark.slow
def test_detector(tmp_path):
    import tensorflow as tf

    model = YOLOV5SPD("n", weights="bccd")
    path = export_saved_model(model, tmp_path / "served", image_size=(320, 320))
    cells, _ = keras_spd.data.load_blood_cells("test").batches(64)[0]
    rows = [np.concatenate(list(cells[start : start + 8]), axis=1) for start in range(0, 64, 8)]
    photo = np.concatenate(rows).astype("uint8")  # 256 x 256
    images = [photo, photo[:, :200], photo[:131]]
    pixels = [keras_spd.data.letterbox(image, (320, 320))[0] for image in images]
    comparison = verify_saved_model(path, model, np.stack(pixels))
    assert comparison.compared > 0
    # Of 1,000 candidates, where the Keras model takes 30,000.
    assert comparison.agreement > 0.98 and comparison.max_difference < 1e-2

    serve = tf.saved_model.load(str(path)).signatures["encoded"]
    answers = _answer(serve, [_file(image, "PNG") for image in images])
    for index, found in enumerate(keras_spd.Predictor(model, image_size=320)(images)):
        sure = found.confidence > 0.3  # what is near the threshold may be on either side of it
        assert sure.any()
        boxes = np.array(answers[index]["boxes"])
        for box in found.boxes[sure]:
            assert np.abs(boxes - box).max(axis=1).min() < 3.0  # pixels of the photo


def test_another_folder_is_not_replaced(classifier, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not a SavedModel"):
        export_saved_model(classifier, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
