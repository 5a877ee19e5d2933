"""The outputs of classifiers as probabilities."""

import keras
import numpy as np
import pytest

from keras_spd.surgery.outputs import to_probabilities


@pytest.mark.parametrize(
    ("units", "expected"), [(1, [[0.5], [0.880797]]), (2, [[0.5, 0.5], [0.880797, 0.119203]])]
)
def test_one_logit_is_a_sigmoid_and_several_are_a_softmax(units, expected):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    logits = np.array([[0, 0], [2, 0]], "float32")[:, :units]
    found = keras.ops.convert_to_numpy(to_probabilities(model, logits))
    np.testing.assert_allclose(found, expected, atol=1e-6)
