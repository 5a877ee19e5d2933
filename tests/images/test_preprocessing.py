"""Normalisation and class names."""

import keras
import numpy as np
import pytest

from keras_spd.applications import (
    STATISTICS,
    Statistics,
    decode_predictions,
    get_statistics,
    preprocess_input,
)
from keras_spd.images.preprocessing import Preprocessing


@pytest.mark.parametrize("name", list(STATISTICS))
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_formula(rng, name, dtype):
    pixels = rng.integers(0, 256, (2, 4, 5, 3)).astype(dtype)
    mean, std = np.array(STATISTICS[name].mean), np.array(STATISTICS[name].std)
    output = preprocess_input(pixels, statistics=name)
    assert isinstance(output, np.ndarray) and output.dtype == "float32"
    np.testing.assert_allclose(output, (pixels / 255 - mean) / std, atol=1e-5)
    tensor = preprocess_input(keras.ops.convert_to_tensor(pixels), statistics=name)
    np.testing.assert_allclose(tensor, output, atol=1e-5)


def test_the_authors_tiny_imagenet_transform():
    """`Normalize((122.4786, ...), (70.4924, ...))` on pixels 0..255."""
    output = preprocess_input(np.array([[[255.0, 0.0, 101.3963]]]), "tiny_imagenet")
    expected = [(255 - 122.4786) / 70.4924, -114.2755 / 68.5679, 0]
    np.testing.assert_allclose(output[0, 0], expected, atol=1e-5)


def test_inside_tf_data(rng):
    import tensorflow as tf

    pixels = rng.integers(0, 256, (2, 4, 5, 3)).astype("float32")
    (output,) = tf.data.Dataset.from_tensors(pixels).map(preprocess_input)
    np.testing.assert_allclose(output, preprocess_input(pixels), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("facts", [{"input_range": (-1, 1)}, {"statistics": "cifar10"}])
def test_integers_inside_tf_data(rng, facts):
    import tensorflow as tf

    if "statistics" in facts:
        facts = {"statistics": get_statistics(facts["statistics"])}
    normalize = Preprocessing(**facts).normalize
    pixels = rng.integers(0, 256, (2, 4, 5, 3)).astype("uint8")
    (output,) = tf.data.Dataset.from_tensors(pixels).map(normalize)
    np.testing.assert_allclose(output, normalize(pixels), atol=1e-5)


def test_own_statistics():
    own = Statistics(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25])
    assert own.mean == (0.5, 0.5, 0.5)
    np.testing.assert_allclose(preprocess_input([[[255, 127.5, 0]]], own), [[[2, 0, -2]]])
    assert get_statistics(own) is own


def test_bad_input():
    with pytest.raises(ValueError, match="one of .'cifar10', 'imagenet', 'tiny_imagenet'."):
        preprocess_input(np.zeros((1, 2, 2, 3)), statistics="cifar100")
    for bad in (3, None, []):
        with pytest.raises(ValueError, match="RGB images"):
            preprocess_input(bad)
    with pytest.raises(ValueError, match=r"must be positive. Received: mean=\(0.0, 0.0, 0.0\)"):
        Statistics((0, 0, 0), (1, 0, 1))
    with pytest.raises(ValueError, match="one value for each RGB channel"):
        Statistics((0.5,), (0.5,))
    with pytest.raises(ValueError, match="one value for each RGB channel"):
        Statistics(0.5, 0.25)
    with pytest.raises(ValueError, match="`max_value` must be a positive number.*max_value=-5"):
        Preprocessing(max_value=-5)
    with pytest.raises(ValueError, match=r"RGB images.*x.shape=\(1, 2, 2, 1\)"):
        preprocess_input(np.zeros((1, 2, 2, 1)))


def test_decode_predictions():
    predictions = np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    decoded = decode_predictions(predictions, ("cat", "dog", "owl"), top=2)
    assert decoded == [[(2, "owl", 0.7), (1, "dog", 0.2)], [(0, "cat", 0.5), (1, "dog", 0.25)]]
    assert len(decode_predictions(predictions, ("cat", "dog", "owl"))[0]) == 3
    with pytest.raises(ValueError, match=r"shape=\(2, 3\) and 2 class names"):
        decode_predictions(predictions, ("cat", "dog"))
    with pytest.raises(ValueError, match="`top` must be an integer >= 1. Received: top=-1"):
        decode_predictions(predictions, ("cat", "dog", "owl"), top=-1)
