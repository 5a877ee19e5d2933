"""Several sizes in one TFLite file."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_spd.applications import STATISTICS, ResNet18SPD
from keras_spd.export import export_tflite, verify_tflite
from keras_spd.export.signatures import merge_signatures
from keras_spd.export.tflite_runtime import TFLiteFile
from keras_spd.predict import Classifier, load_predictor

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TFLite files are written with TensorFlow"
)
SIZES, COUNTS = [(32, 32), (16, 24)], [1, 3]


@pytest.fixture
def model(thin_networks):
    """A small classifier for any image size that records its statistics."""
    model = ResNet18SPD(classes=4)
    model.info = dataclasses.replace(model.info, statistics=STATISTICS["cifar10"])
    return model


@pytest.mark.slow
def test_each_size_computes_what_keras_does_and_weights_are_there_once(model, tmp_path, rng):
    one = export_tflite(model, tmp_path / "one.tflite", image_size=SIZES[0])
    path = export_tflite(model, tmp_path / "all.tflite", image_size=SIZES, batch_size=COUNTS)
    assert path.stat().st_size < 1.05 * one.stat().st_size
    file = TFLiteFile(path)
    assert list(file.runners) == [(count, *size, 3) for size in SIZES for count in COUNTS]
    assert file.image_sizes == tuple(SIZES)
    for size in SIZES:
        images = rng.integers(0, 256, (5, *size, 3)).astype("float32")
        assert verify_tflite(path, model, images, tolerance=1e-5).images == 5
        [automatic], [by_one] = file(images).values(), file(images, [1]).values()
        np.testing.assert_allclose(automatic, by_one, atol=1e-5)
    with pytest.raises(ValueError, match=r"takes images of \(32, 32\) or \(16, 24\).*\(8, 8\)"):
        file(np.zeros((1, 8, 8, 3)))

    picture = rng.integers(0, 256, (40, 40, 3), dtype="uint8")
    for size in SIZES:
        ours, [theirs] = (
            Classifier(model, size)([picture]),
            load_predictor(path, size)([picture]),
        )
        np.testing.assert_array_equal(theirs.classes, ours[0].classes)
        np.testing.assert_allclose(theirs.confidence, ours[0].confidence, atol=1e-5)


@pytest.mark.slow
def test_8_bits_are_calibrated_for_each_size(model, tmp_path, rng):
    images = rng.integers(0, 256, (20, *SIZES[0], 3)).astype("float32")
    path = export_tflite(
        model,
        tmp_path / "all.tflite",
        quantization="int8",
        representative_data=images,
        image_size=SIZES,
    )
    small = rng.integers(0, 256, (5, *SIZES[1], 3)).astype("float32")
    for pixels in (images[:5], small):
        assert verify_tflite(path, model, pixels, tolerance=0.05).images == 5


def test_loops_call_their_own_subgraphs(tmp_path):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    def power(exponent):
        @tf.function(input_signature=[tf.TensorSpec((1, 2, 2, 1))])
        def function(x):
            loop = tf.while_loop(
                lambda step, _: step < exponent, lambda step, y: (step + 1, y * x), [0, x]
            )
            return {"y": loop[1]}

        module = tf.Module()
        module.function = function
        tf.saved_model.save(module, str(tmp_path / str(exponent)))
        return tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / str(exponent))).convert()

    contents = {f"power_{exponent + 1}": power(exponent) for exponent in (1, 4)}
    path = tmp_path / "merged.tflite"
    path.write_bytes(merge_signatures(contents))
    interpreter = Interpreter(str(path))
    for exponent in (2, 5):
        run = interpreter.get_signature_runner(f"power_{exponent}")
        found = run(x=np.full((1, 2, 2, 1), 3, "float32"))
        np.testing.assert_array_equal(found["y"], 3.0**exponent)
