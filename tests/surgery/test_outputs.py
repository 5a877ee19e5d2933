"""The outputs of classifiers as probabilities."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_spd.surgery.outputs import output_kind, to_probabilities


@pytest.mark.parametrize(
    ("units", "expected"), [(1, [[0.5], [0.880797]]), (2, [[0.5, 0.5], [0.880797, 0.119203]])]
)
def test_one_logit_is_a_sigmoid_and_several_are_a_softmax(units, expected):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    logits = np.array([[0, 0], [2, 0]], "float32")[:, :units]
    found = keras.ops.convert_to_numpy(to_probabilities(model, logits))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def _member(activation):
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(2, activation=activation)(inputs))


_COMBINATIONS = {
    "mean": lambda a, b: ops.mean(ops.stack([a, b]), axis=0),
    "half the sum": lambda a, b: keras.layers.Add()([a, b]) * 0.5,
    "difference": lambda a, b: a - b,
    "temperature": lambda a, b: (a + b) / 2.0,
}


@pytest.mark.parametrize("combine", _COMBINATIONS.values(), ids=_COMBINATIONS)
def test_a_mean_of_probabilities_is_not_taken_for_logits(combine):
    inputs = keras.Input((3,))
    logits = combine(_member(None)(inputs), _member(None)(inputs))
    assert output_kind(keras.Model(inputs, logits)) == "logits"
    combined = combine(_member("softmax")(inputs), _member("softmax")(inputs))
    with pytest.raises(ValueError, match="Cannot tell whether .* returns probabilities or logits"):
        output_kind(keras.Model(inputs, combined))


def test_gated_logits_are_logits():
    inputs = keras.Input((3,))
    gate = keras.layers.Dense(2, activation="sigmoid")(inputs)
    assert output_kind(keras.Model(inputs, keras.layers.Dense(2)(inputs) * gate)) == "logits"
