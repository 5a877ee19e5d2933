"""Training for 8 bits: what is rounded, and that the int8 file has the learned ranges."""

import re

import keras
import numpy as np
import pytest
from keras import layers

import keras_spd
from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo
from keras_spd.export import export_tflite, run_tflite
from keras_spd.surgery.quantize_aware import Range, is_quantize_aware, without_ranges

with_files = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite files are written with TensorFlow"
)


@pytest.fixture
def model(rng):
    """A network with a layer of each kind, and trained statistics."""
    inputs = x = keras.Input((16, 16, 3))
    x = keras_spd.layers.SPDConv(8, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = first = layers.Activation("silu", name="silu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.ReLU(6, name="relu6")(x)
    x = layers.Conv2D(8, 1, activation="relu", name="pointwise")(x)
    x = layers.Add(name="add")([x, first])
    x = layers.Multiply(name="gate")([x, layers.Activation("sigmoid", name="sigmoid")(first)])
    x = layers.Concatenate(name="concat")([layers.Conv2D(4, 3, padding="same", name="conv")(x), x])
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(4, activation="relu", name="hidden")(x)
    outputs = layers.Dense(3, name="logits")(x)
    info = ModelInfo(input_range=(0, 1), outputs="probabilities")
    model = ImageModel(inputs, outputs, info=info)
    for weight in model.weights:
        if "variance" not in weight.path:
            weight.assign(weight + rng.normal(0, 0.05, weight.shape))
    return model


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (8, 16, 16, 3), dtype="uint8")


def fit(model, pixels, steps=3):
    model.compile(keras.optimizers.SGD(1e-3), loss="mse")
    targets = np.zeros((len(pixels), 3), "float32")
    model.fit(pixels / np.float32(255), targets, epochs=steps, verbose=0)


@pytest.mark.slow
def test_what_is_rounded(model, pixels):
    aware = keras_spd.quantize_aware(model)
    ranges = {layer.name for layer in aware.layers if isinstance(layer, Range)}
    # Not before a ReLU (one operator) or a concatenation (its range), not a sigmoid, whose range is
    # fixed, and not the outputs.
    expected = {"stem", "silu", "relu6", "pointwise", "add", "gate", "concat", "mean", "hidden"}
    assert ranges == {f"{name}_range" for name in expected}
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in aware.layers)
    images = pixels / np.float32(255)
    before = model.predict(images, verbose=0)
    kernels_only = aware.predict(images, verbose=0)  # no range is known yet
    np.testing.assert_allclose(kernels_only, before, atol=0.05 * np.abs(before).max())

    kernel = np.array(aware.get_layer("pointwise").kernel)
    fit(aware, pixels)
    assert np.abs(np.array(aware.get_layer("pointwise").kernel) - kernel).max() > 0
    silu = aware.get_layer("silu_range")
    values = keras.Model(aware.input, silu.output).predict(images, verbose=0)
    assert len(np.unique(values)) <= 256
    assert -0.5 < float(silu.low) < 0 < float(silu.high)
    steps = aware.predict(images, verbose=0)
    np.testing.assert_array_equal(aware.predict(images, verbose=0), steps)  # ranges are fixed now


def test_a_range_follows_activations(rng):
    layer = Range(momentum=0.9)
    first = np.linspace(-1, 3, 100, dtype="float32")
    np.testing.assert_array_equal(layer(first), first)  # not trained
    np.testing.assert_allclose(layer(first, training=True), first, atol=2 / 255 + 1e-6)
    assert (float(layer.low), float(layer.high)) == (-1, 3)
    layer(2 * first, training=True)
    assert float(layer.low) == pytest.approx(-1.1) and float(layer.high) == pytest.approx(3.3)
    assert float(np.max(layer(2 * first))) == pytest.approx(3.3, abs=4.4 / 255)  # clipped


@pytest.mark.slow
def test_saved_and_refused(model, pixels, tmp_path):
    aware = keras_spd.quantize_aware(model)
    fit(aware, pixels, 1)
    aware.save(tmp_path / "aware.keras")
    loaded = keras.saving.load_model(tmp_path / "aware.keras")
    images = pixels / np.float32(255)
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), aware.predict(images, verbose=0), atol=1e-6
    )
    with pytest.raises(ValueError, match="is quantisation-aware already"):
        keras_spd.quantize_aware(loaded)


@pytest.mark.slow
@with_files
def test_the_file_has_the_learned_ranges(model, pixels, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    aware = keras_spd.quantize_aware(model)
    fit(aware, pixels)
    for layer in aware.layers:
        if isinstance(layer, Range):
            layer.high.assign(layer.high * 1.1)  # unlike what calibration finds
    path = export_tflite(
        aware, tmp_path / "model.tflite", quantization="int8", representative_data=pixels
    )
    plain, ranges = without_ranges(aware)
    assert not is_quantize_aware(plain) and len(ranges) == 9
    found = {}
    for tensor in Interpreter(str(path)).get_tensor_details():
        for name in re.findall(r"/([\w-]+-range\d)", tensor["name"]):
            found.setdefault(name, []).append(tensor["quantization"])
    for name, (low, high) in ranges.items():
        scale = (high - low) / 255
        zero = np.rint(-128 - low / scale)
        assert any(
            step == pytest.approx(scale, rel=1e-5) and zero == offset
            for step, offset in found[name]
        ), name
    with pytest.raises(ValueError, match='was trained for 8 bits: .* quantization="int16x8"'):
        export_tflite(aware, path, quantization="int16x8", representative_data=pixels)
    expected = aware.predict(pixels / np.float32(255), verbose=0)
    received = run_tflite(path, pixels)
    step = np.ptp(expected) / 255
    np.testing.assert_allclose(received, expected, atol=4 * step)


@with_files
@pytest.mark.slow
@pytest.mark.parametrize("head", ["yolov5", "yolov8"])
def test_a_detector(thin_networks, rng, tmp_path, head):
    model = keras_spd.quantize_aware(YOLOV5SPD("n", classes=2, head=head))
    model.decoder = keras_spd.detection.Decoder(confidence_threshold=0.0, max_detections=20)
    pixels = rng.integers(0, 256, (2, 64, 64, 3), dtype="uint8")
    model.network(pixels.astype("float32"), training=True)
    names = [layer.name for layer in model.network.layers if isinstance(layer, Range)]
    assert len(names) > 20 and not any("head" in name for name in names)
    path = export_tflite(
        model,
        tmp_path / "model.tflite",
        quantization="int8",
        representative_data=pixels,
        image_size=(64, 64),
    )
    found = keras_spd.predict.load_detector(path).predict_on_batch(pixels)
    assert np.asarray(found["boxes"]).shape == (2, 20, 4)
    for count, boxes, confidence in zip(
        *(found[key] for key in ("num_detections", "boxes", "confidence")), strict=True
    ):
        assert count >= 2 and (boxes[:count, 2:] > boxes[:count, :2]).all()
        assert (np.diff(confidence[:count]) <= 0).all() and 0 < confidence[0] < 1


def test_only_the_last_layers_of_the_whole_network_return_floats():
    """A backbone that is nested in a classifier is rounded like one that is not."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="one")(inputs)
    base = keras.Model(inputs, layers.Conv2D(4, 3, activation="relu", name="two")(x), name="base")
    outputs = layers.Dense(2, name="last")(layers.GlobalAveragePooling2D()(base(inputs)))
    converted = keras_spd.quantize_aware(keras.Model(inputs, outputs))
    inside = [layer.name for layer in converted.get_layer("base").layers]
    assert {"one_range", "two_range"} <= set(inside)
    assert "last_range" not in [layer.name for layer in converted.layers]
