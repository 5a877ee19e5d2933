"""Fixtures for tests of training."""

import pytest
from PIL import Image

from keras_spd.training import callbacks, fit
from keras_spd.training.saved_state import SaveState


@pytest.fixture(autouse=True)
def _quick_pictures(monkeypatch, request):
    """Runs write a small picture instead of plots, which `test_run_plots.py` tests."""
    if "pictures" in request.fixturenames:
        return

    def draw(*arguments, **options):
        [path] = [value for value in arguments if hasattr(value, "suffix")]
        Image.new("RGB", (8, 8)).save(path)

    for module in (callbacks, fit):
        monkeypatch.setattr(module, "draw_learning_curves", draw)
    monkeypatch.setattr(fit, "draw_training_images", draw)


@pytest.fixture
def pictures():
    """Runs draw their pictures, as outside of tests."""


@pytest.fixture
def interrupt_after(monkeypatch):
    """Returns a function that interrupts training once after each of some epochs, counted from 1.

    The state of the epoch is already saved, as if Ctrl-C came between two epochs.
    """
    monkeypatch.setattr("keras_spd.training.saved_state._SECONDS_BETWEEN_SAVES", 0)
    save = SaveState.on_epoch_end

    def interrupt_after(*epochs):
        remaining = list(epochs)

        def save_and_stop(self, epoch, logs=None):
            save(self, epoch, logs)
            if remaining and epoch + 1 == remaining[0]:
                remaining.pop(0)
                raise KeyboardInterrupt

        monkeypatch.setattr(SaveState, "on_epoch_end", save_and_stop)

    return interrupt_after
