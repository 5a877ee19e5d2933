"""One image, one answer: Keras, explanation, and every kind of file say the same."""

import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image

from keras_spd import export, predict
from keras_spd.applications import ImageModel, ModelInfo
from keras_spd.explain.network_input import classify as explain_classes

SIZE = (24, 32)


def images(rng):
    """A photograph with edges, an image of the network's own size, a thin one and noise."""
    small = rng.integers(0, 256, (4, 5, 3), dtype="uint8")
    smooth = Image.fromarray(small).resize((60, 50), Image.Resampling.BICUBIC)
    yield np.asarray(smooth)
    for shape in ((*SIZE, 3), (1, 40, 3), (33, 7, 3)):
        yield rng.integers(0, 256, shape, dtype="uint8")


def head(x, kind):
    if kind == "softmax":
        return keras.layers.Dense(3, activation="softmax")(x)
    if kind == "sigmoid":
        return keras.layers.Dense(3, activation="sigmoid")(x)
    x = keras.layers.Dense(3)(x)
    return {
        "logits": lambda x: x,
        "ops.softmax": keras.ops.softmax,
        "Softmax": keras.layers.Softmax(),
        "Activation": keras.layers.Activation("softmax"),
        "nested": keras.Sequential([keras.Input((3,)), keras.layers.Softmax()]),
    }[kind](x)


def classifier(kind, **facts):
    """A classifier whose scores depend on the scale of its inputs."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    info = ModelInfo(class_names=("a", "b", "c"), **facts)
    return ImageModel(inputs, head(x, kind), info=info, name="small")


def expected(model, image, normalize, is_logits):
    """The answer by NumPy and the bare network."""
    pixels = Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    row = model.predict(normalize(np.asarray(pixels, "float32"))[None], verbose=0)[0]
    exponents = np.exp(row - row.max())
    return exponents / exponents.sum() if is_logits else row


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
FACTS = {
    "statistics": (
        {"statistics": "imagenet"},
        lambda pixels: ((pixels / 255 - IMAGENET[0]) / IMAGENET[1]).astype("float32"),
    ),
    "range": ({"input_range": (-1, 1)}, lambda pixels: pixels / 127.5 - 1),
    "pixels": ({"input_range": (0, 255)}, lambda pixels: pixels),
}
KINDS = ("softmax", "Softmax", "Activation", "nested", "ops.softmax", "sigmoid", "logits")


@pytest.mark.parametrize(
    ("kind", "facts"),
    [*((kind, "statistics") for kind in KINDS), ("softmax", "range"), ("logits", "pixels")],
)
def test_classifiers_in_keras(kind, facts, rng):
    given, normalize = FACTS[facts]
    model = classifier(kind, **given)
    classify = predict.Classifier(model)
    for image in images(rng):
        row = expected(model, image, normalize, kind == "logits")
        [found] = classify([image])
        np.testing.assert_allclose(found.confidence, row[found.classes], atol=1e-5)
        for label, _, probability in explain_classes(model, image):
            assert probability == pytest.approx(row[label], abs=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="written with TensorFlow")
@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("softmax", "statistics"),
        ("logits", "statistics"),
        ("ops.softmax", "statistics"),
        ("logits", "range"),
    ],
)
def test_classifiers_in_files(kind, facts, tmp_path, rng):
    import tensorflow as tf

    given, normalize = FACTS[facts]
    model = classifier(kind, **given)
    model.save(tmp_path / "small.keras")
    file = export.export_tflite(model, tmp_path / "small.tflite")
    served = export.export_saved_model(model, tmp_path / "served")
    export.verify_tflite(file, model, rng.uniform(0, 255, (4, *SIZE, 3)))
    export.verify_saved_model(served, model, rng.uniform(0, 255, (4, *SIZE, 3)))
    loaded = [predict.load_predictor(tmp_path / name) for name in ("small.keras", "small.tflite")]
    serve = tf.saved_model.load(str(served)).signatures
    serve_pixels = serve["serving_default"]
    for image in images(rng):
        row = expected(model, image, normalize, kind == "logits")
        for classify in loaded:
            [found] = classify([image])
            np.testing.assert_allclose(found.confidence, row[found.classes], atol=1e-4)
        pixels = Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BILINEAR)
        [row_served] = serve_pixels(tf.constant([np.asarray(pixels, "float32")])).values()
        np.testing.assert_allclose(row_served[0], row, atol=1e-4)
        encoded = tf.io.encode_png(image)[None]
        [row_encoded] = serve["encoded"](contents=encoded)["predictions"].numpy()
        np.testing.assert_allclose(row_encoded, row, atol=0.02)  # TensorFlow's bilinear


def test_a_model_that_does_not_know_its_inputs_is_refused(rng):
    known = classifier("softmax", statistics="imagenet")
    plain = keras.Model(known.inputs, known.outputs)
    unknown = ImageModel(known.inputs, known.outputs, info=ModelInfo())
    image = next(images(rng))
    for model in (plain, unknown):
        messages = []
        for refuse in (predict.Classifier, lambda model: explain_classes(model, image)):
            with pytest.raises(ValueError, match="does not know how its images are norm") as error:
                refuse(model)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    # As the message says.
    unknown.info = dataclasses.replace(unknown.info, statistics="imagenet")
    [ours], [theirs] = predict.Classifier(unknown)([image]), predict.Classifier(known)([image])
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)


def test_what_the_last_operation_does_not_tell_must_be_said(rng):
    known = classifier("softmax", statistics="imagenet")
    outputs = keras.layers.Lambda(lambda x: x)(known.output)
    model = ImageModel(known.inputs, outputs, info=known.info)
    with pytest.raises(ValueError, match="probabilities or logits.*Lambda"):
        predict.Classifier(model)
    model.info = dataclasses.replace(model.info, outputs="probabilities")
    image = next(images(rng))
    [ours], [theirs] = predict.Classifier(model)([image]), predict.Classifier(known)([image])
    np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=1e-6)
