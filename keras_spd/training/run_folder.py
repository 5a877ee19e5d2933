"""The folder of a training run: its files, and the state that a stopped run resumes from.

| file | content |
| --- | --- |
| `recipe.toml` | the recipe; `load_recipe` reads it |
| `start.keras` | the initial model, if the run starts from trained weights or a given model |
| `environment.json` | versions, machine, command line and git state, also of resumed runs |
| `log.csv` | losses and metrics of every epoch |
| `training_images.png` | examples of augmented training images, with their boxes or classes |
| `learning_curves.png` | plot of `log.csv` |
| `tensorboard/` | the same for TensorBoard, if it and TensorFlow are installed |
| `state.weights.h5` | weights, optimizer, completed epochs and their time, to resume from |
| `best.weights.h5` | weights of the best epoch: on the validation data or, without, the test data |
| `model.keras` | the result: a float32 model with the best weights and its class names |
| `scores.json` | detectors: all scores of `model.keras` on the test data |
| `validation_scores.json` | the same on the validation data, if there are any |
| `results.json` | scores of `model.keras` on the test data, training time, choice of the epoch |
| `.lock` | held while a training writes to the folder |
"""

import csv
import json
import logging
import math
import os
import pathlib
import tempfile
import time
import warnings
from typing import Any

import h5py
import keras

from keras_spd.files import check_h5, shorten, whole_file, write_json
from keras_spd.training.environment import describe_environment
from keras_spd.training.fields import Recipe
from keras_spd.training.recipe import load_recipe
from keras_spd.typing import Path
from keras_spd.weights.keras_file import save_weights_file

_log = logging.getLogger(__name__)
START_MODEL = "start.keras"
_EPOCHS = "keras_spd_epochs"
_SECONDS = "keras_spd_seconds"
_SECONDS_BETWEEN_SAVES = 10.0  # seconds: a save takes one, as long as an epoch of few small images


class RunFolder:
    """Paths of a run's files, and its small files.

    Args:
        path: Path of the folder. It is created if it does not exist.

    Raises:
        ValueError: If it cannot be created or written to.
    """

    def __init__(self, path: Path) -> None:
        if "://" in os.fspath(path):
            raise ValueError(
                "A run folder must be on a local or mounted file system. Received: "
                f"{os.fspath(path)!r}. Mount the bucket, or copy the folder after the run."
            )
        self.path = pathlib.Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # A temporary file has no fixed name, so workers can do this at the same time.
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise ValueError(f"Cannot write to the run folder {self.path}: {error}.") from error
        self.lock = self.path / ".lock"
        self.recipe = self.path / "recipe.toml"
        self.start_model = self.path / START_MODEL
        self.environment = self.path / "environment.json"
        self.log = self.path / "log.csv"
        self.training_images = self.path / "training_images.png"
        self.learning_curves = self.path / "learning_curves.png"
        self.tensorboard = self.path / "tensorboard"
        self.state = self.path / "state.weights.h5"
        self.best = self.path / "best.weights.h5"
        self.model = self.path / "model.keras"
        self.results = self.path / "results.json"
        self.scores = self.path / "scores.json"
        self.validation_scores = self.path / "validation_scores.json"

    @property
    def files(self) -> list[pathlib.Path]:
        """The paths of all files and folders in the run folder, whether they exist or not."""
        return [path for path in vars(self).values() if path != self.path]

    def start(self, recipe: Recipe, resumed: bool = False, **code: list[str]) -> None:
        """Writes the recipe and the environment of a new or resumed run.

        Args:
            recipe: `Recipe`.
            resumed: Whether the run is resumed.
            **code: Names of the user's own code, such as `transform=["module.function"]`.
        """
        environment = describe_environment() | code
        if resumed and self.environment.is_file():
            environment = self._with_resumed(environment)
            for name in ("transform", "callbacks"):
                if name in environment and name not in code:
                    _log.warning(
                        "%s was started with `%s=` %s in Python, and is resumed without.",
                        self.path,
                        name,
                        ", ".join(environment[name]),
                    )
        with whole_file(self.recipe) as unfinished:  # another worker may be reading it
            unfinished.write_text(recipe.to_toml(), encoding="utf-8")
        write_json(self.environment, environment)

    def _with_resumed(self, environment: dict[str, Any]) -> dict[str, Any]:
        try:
            first = json.loads(self.environment.read_text(encoding="utf-8"))
            return first | {"resumed": [*first.get("resumed", []), environment]}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.environment} is damaged ({error}). It only describes the machine that the "
                "run was started on: delete it, and resume."
            ) from error

    def read_recipe(self) -> Recipe:
        """Returns the recipe of the run; raises a `ValueError` if it is damaged."""
        try:
            if not self.recipe.read_bytes().strip():
                raise ValueError(f"{self.recipe} is empty.")
            return load_recipe(self.recipe)
        except ValueError as error:
            raise ValueError(
                f"{error} A run resumes with the recipe it was started with: restore it, or "
                "start a new run in another folder."
            ) from error

    def read_log(self) -> list[dict[str, float]]:
        """Returns a dictionary of numbers for each logged epoch; blank values are NaN."""
        if not self.log.is_file():
            return []
        try:
            return _rows(self.log.read_text(encoding="utf-8"))
        except ValueError as error:
            raise self._damaged_log(error) from error

    def forget_epochs(self, first_epoch: int) -> None:
        """Drops logged epochs from `first_epoch` on, which a resumed run repeats.

        The last line may be incomplete, if the run was killed during writing.
        """
        if not first_epoch or not self.log.is_file():
            self.log.unlink(missing_ok=True)
            return
        try:
            with self.log.open(newline="", encoding="utf-8") as file:  # keeps the line endings
                head, *lines = file.read().splitlines(keepends=True) or [""]
            start = int(lines[0].split(",")[0]) if lines else 0  # above 0 if a log was deleted
            kept = head + "".join(lines[: max(first_epoch - start, 0)])
            if [row.get("epoch") for row in _rows(kept)] != list(range(start, first_epoch)):
                raise ValueError(f"it must hold the epochs from {start} to {first_epoch - 1}")
        except ValueError as error:
            raise self._damaged_log(error) from error
        with whole_file(self.log) as unfinished:
            unfinished.write_text(kept, encoding="utf-8", newline="")

    def _damaged_log(self, reason: Exception) -> ValueError:
        return ValueError(
            f"{self.log} is damaged: {reason}. Fix it, or delete it to resume without what was "
            "logged. The weights are kept, but the best epoch is then chosen among later epochs."
        )

    def holds_best(self) -> bool:
        """Whether `best.weights.h5` exists and is not damaged."""
        if not self.best.is_file():
            return False
        try:
            check_h5(self.best)
        except ValueError as error:
            _log.warning(
                "%s is damaged (%s). It will be replaced by the best epoch from now on.",
                self.best,
                error.__cause__,
            )
            return False
        return True

    def load_best(self, model: keras.Model) -> None:
        """Loads the weights of the best epoch into a model."""
        try:
            check_h5(self.best)
            model.load_weights(self.best)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(
                f"{self.best}, the weights of the best epoch, is missing or damaged "
                f"({shorten(error.__cause__ or error)}). Raise `epochs` in {self.recipe} and "
                "resume: it will be replaced by the best of the further epochs."
            ) from error


def _rows(text: str) -> list[dict[str, float]]:
    try:
        rows = csv.DictReader(text.splitlines())
        return [{key: math.nan if x == "" else float(x) for key, x in row.items()} for row in rows]
    except (TypeError, AttributeError, csv.Error) as error:  # a line with fewer or more values
        raise ValueError(f"a line does not fit the first one ({error})") from error


class LogEpochs(keras.callbacks.Callback):
    """Writes the logs of each epoch as a line of a CSV file.

    Unlike `keras.callbacks.CSVLogger`, it leaves missing values blank and accepts columns that the
    first epoch lacked, such as scores that are computed every few epochs.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = pathlib.Path(path)
        self._skipped: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        rows = []
        if self.path.is_file():
            rows = list(csv.DictReader(self.path.read_text(encoding="utf-8").splitlines()))
        rows.append({"epoch": epoch, **self._numbers(logs or {})})
        columns = sorted({name for row in rows for name in row} - {"epoch"})
        with (
            whole_file(self.path) as unfinished,
            unfinished.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, ["epoch", *columns], restval="")
            writer.writeheader()
            writer.writerows(rows)

    def _numbers(self, logs: dict[str, Any]) -> dict[str, float]:
        numbers = {}
        for name, value in logs.items():
            try:
                numbers[name] = float(keras.ops.convert_to_numpy(value))
            except (TypeError, ValueError):
                if name not in self._skipped:
                    _log.warning(
                        "%s only takes numbers: %r, which a callback added, is skipped. "
                        "Received: %r.",
                        self.path,
                        name,
                        value,
                    )
                self._skipped.add(name)
        return numbers


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
