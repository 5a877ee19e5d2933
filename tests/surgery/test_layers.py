"""The layers of converted networks, by the contract of a Keras layer."""

import numpy as np
import pytest
from testing import run_layer_test

from keras_spd.surgery import PhaseAlignment, PhasePooling, SPDDepthwiseConv


def test_phase_alignment(tmp_path):
    arguments = {
        "kernel_size": (3, 5),
        "scale": 2,
        "padding": "same",
        "data_format": "channels_first",
    }
    _, output = run_layer_test(PhaseAlignment, arguments, (2, 3, 7, 8), tmp_path=tmp_path)
    assert output.shape == (2, 3, 8, 8)
    assert np.all(output[:, :, 0] == 0)


def test_phase_pooling(tmp_path):
    arguments = {"mode": "max", "pool_size": (3, 2), "scale": 2, "padding": "same"}
    layer = PhasePooling(**arguments, data_format="channels_first")
    assert layer.compute_output_shape((2, 3, 7, 9)) == (2, 3, 4, 5)
    layer = PhasePooling.from_config(layer.get_config())
    assert layer.data_format == "channels_first"
    with pytest.raises(ValueError, match="`mode` must be one of 'max', 'average'"):
        PhasePooling(**arguments | {"mode": "Max"})


def test_spd_depthwise_conv(tmp_path):
    arguments = {
        "kernel_size": (2, 2),
        "scale": 3,
        "padding": "same",
        "depth_multiplier": 2,
        "activation": "relu",
        "depthwise_initializer": "he_normal",
        "depthwise_regularizer": "l2",
        "depthwise_constraint": "max_norm",
        "bias_initializer": "ones",
        "bias_regularizer": "l1",
        "bias_constraint": "non_neg",
        "activity_regularizer": "l2",
    }
    layer = SPDDepthwiseConv(**arguments)
    output = layer(np.ones((1, 7, 9, 3), "float32"))
    assert output.shape == (1, 3, 3, 6) == layer.compute_output_shape((1, 7, 9, 3))
    config = layer.get_config()
    assert SPDDepthwiseConv.from_config(config).get_config() == config
    assert set(arguments) <= set(config)
