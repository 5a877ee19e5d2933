"""The weights and the state that a training run saves, and that a stopped run resumes from."""

import math
import pathlib
import time
import warnings
from typing import Any

import h5py
import keras

from keras_spd.files import check_h5, shorten
from keras_spd.typing import Path
from keras_spd.weights.keras_file import save_weights_file

_EPOCHS = "keras_spd_epochs"
_SECONDS = "keras_spd_seconds"
_SECONDS_BETWEEN_SAVES = 10.0  # seconds: a save takes one, as long as an epoch of few small images


class SaveState(keras.callbacks.Callback):
    """Saves weights and optimizer atomically after an epoch, so that a stopped run can resume.

    The first and the last epoch are saved, and between them each that ends at least 10 seconds
    after the last save.

    `keras.callbacks.BackupAndRestore` writes epoch and weights to two files in place: a run killed
    during or between the two resumes from the wrong state. This callback writes a single file that
    includes the number of completed epochs, and moves it into place when it is complete. It also
    includes the time that they took, with their evaluations, in all parts of a resumed run. The
    optimizer's step counter is no substitute for that number: under float16, steps whose gradients
    overflow are skipped.

    Args:
        path: Path of the file.
        last_epoch: The number of epochs after which training ends.
    """

    def __init__(self, path: Path, last_epoch: int | None = None) -> None:
        super().__init__()
        self.path = pathlib.Path(path)
        self._last_epoch = last_epoch
        self._saved = -math.inf
        self._seconds = saved_seconds(self.path) if h5py.is_hdf5(self.path) else 0.0
        self._since = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            return  # keeps the state before the loss diverged
        now = time.perf_counter()
        self._seconds += now - self._since
        self._since = now
        ends = epoch + 1 == self._last_epoch or self.model.stop_training
        if ends or now - self._saved >= _SECONDS_BETWEEN_SAVES:
            attributes = {_EPOCHS: epoch + 1, _SECONDS: self._seconds}
            save_weights_file(self.model, self.path, **attributes)
            self._saved = time.perf_counter()


class SaveBest(keras.callbacks.Callback):
    """Saves the weights of the best epoch atomically; on a tie, those of the later epoch.

    `keras.callbacks.ModelCheckpoint` writes in place, and keeps NaN as the best score if the first
    score is NaN.

    Args:
        path: Path of the file.
        score: Name of a metric for which higher is better. Epochs in which it is missing or NaN are
            ignored.
        best: Best score so far.
    """

    def __init__(self, path: Path, score: str, best: float = float("-inf")) -> None:
        super().__init__()
        self.path, self.score, self.best = pathlib.Path(path), score, best

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        score = logs.get(self.score, math.nan)
        if score >= self.best and math.isfinite(logs.get("loss", 0.0)):
            save_weights_file(self.model, self.path, **{_EPOCHS: epoch + 1})
            self.best = score


def saved_epochs(path: Path, otherwise: int | None = None) -> int:
    """Returns the number of completed epochs in a file of `SaveState` or `SaveBest`.

    If the file does not record it, returns `otherwise`, or raises a `ValueError` if that is `None`.
    """
    try:
        check_h5(path)
        with h5py.File(path) as file:
            return int(
                file.attrs[_EPOCHS] if otherwise is None else file.attrs.get(_EPOCHS, otherwise)
            )
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"Cannot resume from {path}: it is damaged, or not written by this version "
            f"({error.__cause__ or error}). Restore a copy of it, or start "
            "a new run in another folder."
        ) from error


def saved_seconds(path: Path) -> float:
    """Returns the training time in a file of `SaveState`; NaN if it does not record it."""
    with h5py.File(path) as file:
        return float(file.attrs.get(_SECONDS, math.nan))


def restore_state(model: keras.Model, path: Path) -> int:
    """Loads a file of `SaveState` into a compiled model; returns the number of completed epochs."""
    epochs = saved_epochs(path)
    model.optimizer.build(model.trainable_variables)
    try:
        with warnings.catch_warnings():  # of an optimizer with other variables, which is skipped
            warnings.filterwarnings("error", "Skipping variable loading for optimizer")
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise ValueError(f"Cannot resume from {path}: {shorten(error)}") from error
    return epochs
