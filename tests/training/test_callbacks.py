"""Callbacks of a run."""

import time
import types

import keras
import numpy as np
import pytest

from keras_spd.training import callbacks
from keras_spd.training.callbacks import (
    AcrossParts,
    PrintProgress,
    StopAfter,
    _DrawCurves,
)
from keras_spd.training.run_folder import RunFolder


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


def test_a_long_epoch_says_where_it_is(monkeypatch, capsys):
    """The first step, of 100 s, builds the graph; all others take 10 s."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    say = PrintProgress()
    say.set_params({"steps": 20, "epochs": 1})
    say.on_epoch_begin(0)
    for batch in range(20):
        now[0] += 100 if batch == 0 else 10
        say.on_train_batch_end(batch, {"loss": 0.5})
    assert capsys.readouterr().out.splitlines() == [
        "2/20 - loss: 0.5000 - about 3min left",
        "5/20 - loss: 0.5000 - about 2min left",
        "8/20 - loss: 0.5000 - about 2min left",
        "11/20 - loss: 0.5000 - about 2min left",
        "14/20 - loss: 0.5000 - about 60s left",
        "17/20 - loss: 0.5000 - about 30s left",
    ]
    say.set_params({"steps": 2000, "epochs": 1})
    say.on_epoch_begin(1)
    say.on_train_batch_end(0)
    now[0] += 30
    say.on_train_batch_end(1, {"loss": 0.5})
    assert capsys.readouterr().out == "2/2000 - loss: 0.5000 - about 16h 39min left\n"


def test_curves_are_drawn_during_a_run_but_not_often(tmp_path, monkeypatch):
    now, drawn = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(callbacks, "draw_learning_curves", lambda *_: drawn.append(now[0]))
    callback = _DrawCurves(RunFolder(tmp_path))
    for now[0] in (20.0, 31.0, 40.0, 62.0):
        callback.on_epoch_end(0)
    assert drawn == [31.0, 62.0]


def test_after_the_last_epoch_the_trained_weights_come_back():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), "mse")
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(np.array(model.layers[0].kernel))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(np.array(model.layers[0].kernel))

    averages = []

    class Between(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            averages.append(np.array(model.layers[0].kernel))

    swap = callbacks._SwapAverage(swap_on_epoch=True)
    every = [swap, Between(), callbacks._SwapBack(swap), Watch()]
    model.fit(np.ones((4, 2)), np.ones((4, 1)), batch_size=1, verbose=0, callbacks=every)
    average = seen[0]
    for kernel in seen[1:4]:
        average = 0.99 * average + 0.01 * kernel
    np.testing.assert_allclose(averages[-1], average, rtol=1e-4)
    assert np.abs(averages[-1] - seen[-2]).max() > 1e-3
    np.testing.assert_allclose(seen[-1], seen[-2], rtol=1e-5)


def test_the_parts_of_a_run_are_one_training_for_your_callbacks():
    events = []

    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            events.append("begin")

        def on_epoch_end(self, epoch, logs=None):
            events.append(epoch)

        def on_train_end(self, logs=None):
            events.append("end")

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    user = AcrossParts(Watch())
    for epoch in range(2):
        data = np.ones((4, 2)), np.ones((4, 1))
        model.fit(*data, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=[user])
    user.end()
    assert events == ["begin", 0, 1, "end"]
