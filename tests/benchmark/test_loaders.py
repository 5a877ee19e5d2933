"""Files of each format become functions of images. (`test_latency` runs them in processes.)"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter
from conftest import find_shared
from tiny import tiny_classifier

from keras_spd.benchmark import loaders

limit_tensorflow = loaders._limit_tensorflow


@pytest.fixture(autouse=True)
def _threads_as_they_are(monkeypatch):
    """TensorFlow's threads cannot be limited after its first operation."""
    monkeypatch.setattr(loaders, "_limit_tensorflow", lambda threads: tf)


@pytest.fixture
def small():
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.Conv2D(2, 3, padding="same")(inputs))


@pytest.mark.parametrize(
    "known, shape",
    [
        ((None, None, None, 3), (2, 32, 48, 3)),
        (("batch", 3, "height", "width"), (2, 3, 32, 48)),
        ((1, 64, 64, 1), (1, 64, 64, 1)),
    ],
)
def test_unknown_sides_are_filled_in(known, shape):
    assert loaders._input_shape(known, (32, 48), 2) == shape


def test_models_without_one_batch_of_images(small, tmp_path):
    with pytest.raises(ValueError, match="must be a batch of images.*(None, 10)"):
        loaders._input_shape((None, 10), None, 1)
    pair = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    two = keras.Model(pair, keras.layers.add(pair))
    two.save(tmp_path / "two.keras")
    with pytest.raises(ValueError, match="must have one input.*It has 2"):
        loaders.LOADERS["keras"](tmp_path / "two.keras", None, 1, 1)


def test_a_keras_file(small, tmp_path):
    small.save(tmp_path / "small.keras")
    run, shape, facts = loaders.LOADERS["keras"](tmp_path / "small.keras", (8, 16), 2, 1)
    assert shape == (2, 8, 16, 3)
    assert facts == {"parameters": 56, "multiply_adds": 8 * 16 * 54}
    images = np.ones(shape, "float32")
    np.testing.assert_allclose(run(images), small(images), rtol=1e-5)


def test_a_keras_file_gets_what_exported_files_do(tmp_path):
    model = tiny_classifier(input_range=(-1, 1))
    model.save(tmp_path / "tiny.keras")
    run, shape, _ = loaders.LOADERS["keras"](tmp_path / "tiny.keras", None, 2, 1)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    expected = model(model.info.preprocessing.normalize(pixels))
    np.testing.assert_allclose(run(pixels), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_pytorch():
    file = find_shared("reference/checkpoints/yolov5n.pt")
    run, shape, facts = loaders.LOADERS["pt"](file, (64, 64), 1, 1)
    assert shape == (1, 64, 64, 3) and facts["parameters"] > 1_800_000
    assert set(run(np.zeros(shape, "float32"))) >= {"boxes", "confidence"}


def test_a_tflite_file(small, tmp_path):
    inputs = keras.Input((8, 8, 3), batch_size=1)
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, small(inputs)))
    (tmp_path / "small.tflite").write_bytes(converter.convert())
    run, shape, _ = loaders.LOADERS["tflite"](tmp_path / "small.tflite", None, 1, 1)
    assert shape == (1, 8, 8, 3)
    images = np.ones(shape, "float32")
    [output] = keras.tree.flatten(run(images))
    np.testing.assert_allclose(output, small(images), rtol=1e-4, atol=1e-5)


def test_a_saved_model_that_takes_bytes(tmp_path):
    module = tf.Module()
    module.serve = tf.function(
        lambda images: {"mean": tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2, 3))},
        input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.uint8, name="images")],
    )
    tf.saved_model.save(module, tmp_path / "served", signatures=module.serve)
    run, shape, _ = loaders.LOADERS["saved_model"](tmp_path / "served", None, 2, 1)
    images = np.full(shape, 7.5)
    np.testing.assert_array_equal(run(images)["mean"], [7, 7])


def test_a_tflite_file_of_any_size(small, tmp_path):
    converter = tf.lite.TFLiteConverter.from_keras_model(small)
    (tmp_path / "any.tflite").write_bytes(converter.convert())
    run, shape, _ = loaders.LOADERS["tflite"](tmp_path / "any.tflite", (8, 16), 2, 1)
    assert shape == (2, 8, 16, 3)
    [found] = run(np.ones(shape, "float32")).values()
    np.testing.assert_allclose(found, small(np.ones(shape, "float32")), rtol=1e-4)


def test_the_number_of_threads_reaches_the_libraries(small, tmp_path, monkeypatch):
    limits = []
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, limits.append)
    monkeypatch.setattr(loaders, "_limit_tensorflow", limit_tensorflow)
    small.save(tmp_path / "small.keras")
    loaders.LOADERS["keras"](tmp_path / "small.keras", (8, 8), 1, 3)
    small.export(tmp_path / "served", verbose=False)
    loaders.LOADERS["saved_model"](tmp_path / "served", (8, 8), 1, 4)
    assert limits == [3, 3, 4, 4]

    class Interpreter(interpreter.Interpreter):
        def __init__(self, num_threads, **options):
            limits.append(num_threads)
            super().__init__(num_threads=num_threads, **options)

    monkeypatch.setattr(interpreter, "Interpreter", Interpreter)
    converter = tf.lite.TFLiteConverter.from_keras_model(small)
    (tmp_path / "any.tflite").write_bytes(converter.convert())
    loaders.LOADERS["tflite"](tmp_path / "any.tflite", (8, 8), 1, 5)
    assert limits[4:] == [5]
