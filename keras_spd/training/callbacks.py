"""Callbacks of a training run: averages, scores, logs, plots and files."""

import importlib.util
import logging
import math
import sys
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from keras_spd import keras_internals
from keras_spd.machine import leave_gpus_to_keras
from keras_spd.training.best_epoch import StopEarly
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.copies import copy_model
from keras_spd.training.detection import DetectionTask
from keras_spd.training.distribution import Distribution
from keras_spd.training.epoch_log import LogEpochs
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.run_plots import draw_learning_curves
from keras_spd.training.saved_state import SaveBest, SaveState
from keras_spd.typing import Array

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 30
_SECONDS_BETWEEN_PICTURES = 30
Task: TypeAlias = ClassificationTask | DetectionTask


def last_change(task: Task) -> int:
    """Returns the epoch from which neither image size nor trained layers change any more."""
    epochs = task.recipe.epochs
    changes = {task.recipe.freeze.until(epochs), *task.size_changes}
    return max((epoch for epoch in changes if epoch < epochs), default=0)


def make_callbacks(
    task: Task,
    start: keras.Model,
    folder: RunFolder,
    distribution: Distribution,
    last_epoch: int,
    user_callbacks: Sequence[Any] = (),
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a run in the order in which `fit` calls them.

    Args:
        task: Task of the recipe.
        start: Model that training starts from, in float32.
        folder: Run folder.
        distribution: Where training runs; only its chief writes files.
        last_epoch: The number of epochs after which `fit` ends.
        user_callbacks: Callbacks that were passed to `train`, each in `AcrossParts`.
    """
    recipe, score = task.recipe, task.best_by
    stop = keras.callbacks.TerminateOnNaN()
    average: list[keras.callbacks.Callback] = []
    back: list[keras.callbacks.Callback] = []
    if recipe.optimizer.average:
        average = [_SwapAverage(swap_on_epoch=True)]
        back = [_SwapBack(*average)]
    if not distribution.is_chief:
        return [stop, *average, *back]
    rows = folder.read_log() if folder.holds_best() else []
    known = (row[score] for row in rows if not math.isnan(row.get(score, math.nan)))
    twin = None
    if distribution.replicas > 1:
        twin = copy_model(start, recipe.precision)
        task.compile(twin, None)
    best = SaveBest(folder.best, score, max(known, default=float("-inf")))
    early: list[keras.callbacks.Callback] = []
    if recipe.patience:
        early = [StopEarly(folder, score, recipe.patience, last_change(task))]
    return [
        stop,
        *average,
        *task.callbacks(twin),  # before `LogEpochs`, which logs their metrics
        *user_callbacks,  # after the evaluation, and before `LogEpochs`: they may add metrics
        LogEpochs(folder.log),
        best,
        *early,
        _DrawCurves(folder),
        *_tensorboard(folder),
        *back,
        SaveState(folder.state, last_epoch),  # last: an epoch it saves must be logged
    ]


class AcrossParts:
    """A callback of your own, for which the parts of a run, each a `fit`, are one training.

    Keras only calls its methods, so it need not be a `Callback` itself.
    """

    def __init__(self, callback: keras.callbacks.Callback) -> None:
        self.callback, self.began = callback, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.callback, name)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self.began:
            self.callback.on_train_begin(logs)
        self.began = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Does nothing: a part has ended, and more may follow."""

    def end(self) -> None:
        """Tells the callback that training has ended."""
        if self.began:
            self.callback.on_train_end()


def check_callbacks(callbacks: Any) -> list[keras.callbacks.Callback]:
    """Returns the callbacks as a list, or raises a `TypeError` if one is something else."""
    callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                "`callbacks` must be a list of `keras.callbacks.Callback`s. "
                f"Received: {callback!r}."
            )
    return callbacks


class _DrawCurves(keras.callbacks.Callback):
    """Draws the learning curves during a run, so a stopped run also has them.

    It waits at least half a minute between two drawings, which take about a second.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder, self.drawn = folder, time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if time.monotonic() - self.drawn > _SECONDS_BETWEEN_PICTURES:
            draw_learning_curves(self.folder.read_log(), self.folder.learning_curves)
            self.drawn = time.monotonic()


class _SwapAverage(keras.callbacks.SwapEMAWeights):
    """Replaces the trained weights with their average after each epoch.

    After the last epoch, Keras lets weights and average share JAX arrays. Evaluation on JAX donates
    the arrays of the weights, so the average gets copies.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # Never the last epoch: Keras would replace the trained weights, which are saved to resume.
        super().on_epoch_end(-1, logs)
        if keras.backend.backend() == "jax":
            optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
            for variable in keras_internals.averaged_variables(optimizer):
                variable.assign(np.array(variable))


class _SwapBack(keras.callbacks.Callback):
    """Restores the trained weights after `SwapEMAWeights` has replaced them with their average."""

    def __init__(self, swap: keras.callbacks.SwapEMAWeights) -> None:
        super().__init__()
        self.swap = swap

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.swap.on_test_end()


class PrintProgress(keras.callbacks.Callback):
    """Prints the progress of an epoch, at most every half minute, for logs without a bar."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.begin: float | None = None
        self.printed = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        now, done, steps = time.monotonic(), batch + 1, self.params.get("steps")
        if self.begin is None:  # the first step also builds the graph
            self.begin, self.first = now, done
        elif now - self.printed >= _SECONDS_BETWEEN_LINES and steps and done < steps:
            left = (steps - done) * (now - self.begin) / (done - self.first)
            loss = (logs or {}).get("loss", math.nan)
            line = f"{done}/{steps} - loss: {loss:.4f} - about {_duration(left)} left\n"
            sys.stdout.write(line)
            sys.stdout.flush()
            self.printed = now


def _duration(seconds: float) -> str:
    """Returns seconds as text: `40s`, `3min`, `2h 5min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f}s"
    return f"{minutes}min" if minutes < 60 else f"{minutes // 60}h {minutes % 60}min"


class StopAfter(keras.callbacks.Callback):
    """Stops `fit` after an epoch and keeps the weights for `restore_weights`.

    At the end of `fit`, Keras replaces the weights with their average.
    """

    def __init__(self, last_epoch: int) -> None:
        super().__init__()
        self.last_epoch = last_epoch
        self.was_stopped = False  # by another callback
        self._weights: list[Array] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.was_stopped = self.model.stop_training
        if epoch + 1 == self.last_epoch < self.params["epochs"]:
            variables = self.model.trainable_variables
            self._weights = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
            self.model.stop_training = True

    def restore_weights(self) -> None:
        for variable, value in zip(self.model.trainable_variables, self._weights, strict=False):
            variable.assign(value)


def _tensorboard(folder: RunFolder) -> list[keras.callbacks.Callback]:
    for package in ("tensorflow", "tensorboard"):  # Keras' callback needs both
        if importlib.util.find_spec(package) is None:
            _log.warning("No TensorBoard log is written. For one, `pip install %s`.", package)
            return []
    leave_gpus_to_keras()
    return [keras.callbacks.TensorBoard(folder.tensorboard)]
