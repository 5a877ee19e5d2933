"""The folder of a training run, and its files.

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

import json
import logging
import os
import pathlib
import tempfile
from typing import Any

import keras

from keras_spd.files import check_h5, shorten, whole_file, write_json
from keras_spd.training.environment import describe_environment
from keras_spd.training.epoch_log import read_rows
from keras_spd.training.fields import Recipe
from keras_spd.training.recipe import load_recipe
from keras_spd.training.saved_state import saved_epochs
from keras_spd.typing import Path

_log = logging.getLogger(__name__)
START_MODEL = "start.keras"


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

    def start(
        self, recipe: Recipe, images: dict[str, int], resumed: bool = False, **code: list[str]
    ) -> None:
        """Writes the recipe and the environment of a new or resumed run.

        Args:
            recipe: `Recipe`.
            images: The number of images in each split.
            resumed: Whether the run is resumed.
            **code: Names of the user's own code, such as `transform=["module.function"]`.
        """
        environment = describe_environment() | {"images": images} | code
        if resumed and self.environment.is_file():
            environment = self._with_resumed(environment)
            if (first := environment.get("images", images)) != images:
                raise ValueError(
                    f"The data has changed since the run in {self.path} was started: images "
                    f"{first}, now {images}. Its scores and held-out images would no longer be "
                    "the same. Restore the data, or start another run."
                )
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
            return read_rows(self.log.read_text(encoding="utf-8"))
        except ValueError as error:
            raise self._damaged_log(error) from error

    def forget_epochs(self, first_epoch: int) -> None:
        """Drops what is known of epochs from `first_epoch` on, which a resumed run repeats.

        The last line may be incomplete, if the run was killed during writing.
        """
        if self.holds_best() and saved_epochs(self.best, otherwise=0) > first_epoch:
            self.best.unlink()
        if not first_epoch or not self.log.is_file():
            self.log.unlink(missing_ok=True)
            return
        try:
            with self.log.open(newline="", encoding="utf-8") as file:  # keeps the line endings
                head, *lines = file.read().splitlines(keepends=True) or [""]
            start = int(lines[0].split(",")[0]) if lines else 0  # above 0 if a log was deleted
            kept = head + "".join(lines[: max(first_epoch - start, 0)])
            if [row.get("epoch") for row in read_rows(kept)] != list(range(start, first_epoch)):
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
