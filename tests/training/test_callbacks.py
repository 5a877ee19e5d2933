"""Callbacks of a run."""

import types

import numpy as np
import pytest

from keras_spd.training.callbacks import StopAfter


@pytest.mark.parametrize("stops", [True, False])
def test_a_callback_that_stops_in_the_last_epoch_of_a_phase_ends_the_run(stops):
    """A phase ends where layers are unfrozen or the image size changes."""
    end = StopAfter(last_epoch=2)
    end.set_params({"epochs": 4})
    model = types.SimpleNamespace(trainable_variables=[np.ones(2)], stop_training=False)
    end.set_model(model)
    end.on_epoch_end(0)
    assert not model.stop_training and not end.was_stopped
    model.stop_training = stops  # by a callback before it
    end.on_epoch_end(1)
    assert model.stop_training and end.was_stopped is stops
