"""The folder of a training run: what is in it, and how a stopped run is found again.

| file | what |
| --- | --- |
| `recipe.toml` | the resolved recipe; `load_recipe` reads it |
| `environment.json` | versions, platform, command line and git state, of resuming too |
| `log.csv` | losses and metrics of every epoch |
| `training_images.png` | images of the first batch, augmented, with their boxes |
| `learning_curves.png` | `log.csv` as a picture |
| `tensorboard/` | the same for TensorBoard, where TensorFlow is installed |
| `state.weights.h5` | weights and optimizer after the last epoch, to resume from |
| `best.weights.h5` | weights of the epoch with the best validation accuracy |
| `model.keras` | the result: the best weights in a float32 model that knows its classes |
| `results.json` | its metrics on the test split |
"""

import contextlib
import csv
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

import keras


class RunFolder:
    """Paths and small files of a run.

    Args:
        path: Path of the folder. It is created.

    Raises:
        ValueError: If it cannot be created or written to.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # A file without a name: workers look at the same folder in the same instant.
            tempfile.TemporaryFile(dir=self.path).close()
        except OSError as error:
            raise ValueError(f"Cannot write to the run folder {self.path}: {error}.") from error
        self.recipe = self.path / "recipe.toml"
        self.log = self.path / "log.csv"
        self.training_images = self.path / "training_images.png"
        self.learning_curves = self.path / "learning_curves.png"
        self.tensorboard = self.path / "tensorboard"
        self.state = self.path / "state.weights.h5"
        self.best = self.path / "best.weights.h5"
        self.model = self.path / "model.keras"
        self.results = self.path / "results.json"

    def start(self, recipe, resumed=False):
        """Writes what describes a run: a new one, or one that goes on."""
        unfinished = self.path / "unfinished.toml"
        unfinished.write_text(recipe.to_toml(), encoding="utf-8")
        os.replace(unfinished, self.recipe)  # another worker may be reading it
        environment, path = describe_environment(), self.path / "environment.json"
        if resumed and path.is_file():
            first = json.loads(path.read_text(encoding="utf-8"))
            environment = first | {"resumed": [*first.get("resumed", []), environment]}
        write_json(path, environment)

    def read_log(self):
        """Returns the logged epochs, a dictionary of numbers each."""
        if not self.log.is_file():
            return []
        with self.log.open(newline="") as file:
            return [{key: float(x) for key, x in row.items()} for row in csv.DictReader(file)]

    def forget_epochs(self, first_epoch):
        """Drops logged epochs from `first_epoch` on, which a resumed run repeats."""
        if not self.log.is_file():
            return
        lines = self.log.read_text().splitlines(keepends=True)
        kept = lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) < first_epoch]
        self.log.write_text("".join(kept))


class SaveState(keras.callbacks.Callback):
    """Saves weights and optimizer after each epoch, at once or not at all.

    `keras.callbacks.BackupAndRestore` writes the epoch and the weights as two files, in place: a
    run killed between or within the two resumes with the wrong one. Here there is one file, moved
    into place when complete, and the epoch follows from the optimizer's step counter in it.
    """

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch, logs=None):
        unfinished = self.path.with_name("unfinished.weights.h5")
        try:
            self.model.save_weights(unfinished, overwrite=True)
            os.replace(unfinished, self.path)
        finally:
            unfinished.unlink(missing_ok=True)


def restore_state(model, path):
    """Loads what `SaveState` wrote and returns the number of optimizer steps taken."""
    model.optimizer.build(model.trainable_variables)
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"Cannot resume from {path}: {error}") from error
    return int(model.optimizer.iterations.numpy())


def describe_environment():
    """Returns versions, platform, command line and git state."""
    packages = ("keras_spd", "keras", "tensorflow", "jax", "torch", "numpy")
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "backend": keras.backend.backend(),
        "versions": versions,
        "git": _git("describe", "--always", "--dirty"),
    }


def _git(*arguments):
    try:
        folder = pathlib.Path(__file__).parent
        result = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
