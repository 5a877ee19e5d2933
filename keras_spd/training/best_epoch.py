"""The best epoch of a run: which one it is, what it was chosen on, and when to stop early."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_spd.training.recipe import load_recipe
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.saved_state import saved_epochs

_log = logging.getLogger(__name__)


def known_scores(log: Sequence[Mapping[str, float]], score: str) -> list[float]:
    """Returns the scores in a log, without those of epochs that were not evaluated."""
    scores = (row.get(score, math.nan) for row in log)
    return [value for value in scores if not math.isnan(value)]


def without_improvement(log: Sequence[Mapping[str, float]], score: str, since: int = 0) -> int:
    """Returns the number of evaluations since the best one.

    A network that has not learned anything yet has no best evaluation: leading zeros do not count.

    Args:
        log: A dictionary for each epoch. Epochs whose score is missing or NaN are ignored.
        score: Name of a metric for which higher is better.
        since: Integer, the first epoch that counts.
    """
    scores = known_scores([row for row in log if row.get("epoch", since) >= since], score)
    return len(scores) - 1 - scores.index(max(scores)) if any(scores) else 0


def has_stopped(folder: RunFolder, score: str, patience: int | None, since: int = 0) -> bool:
    """Returns whether the last `patience` evaluations of a run gave no better score.

    Args:
        since: Integer, the first epoch that counts: the one after the last change of image sizes
            or trained layers.
    """
    if patience is None:
        return False
    return without_improvement(folder.read_log(), score, since) >= patience


class StopEarly(keras.callbacks.Callback):
    """Stops a run after `patience` evaluations without a better score.

    It counts in the run's log, after `LogEpochs` has written the epoch, so a resumed run stops
    where an uninterrupted one does. `keras.callbacks.EarlyStopping` starts counting again.

    Args:
        folder: Run folder.
        score: Name of a metric for which higher is better.
        patience: Integer.
        since: As in `has_stopped`.
    """

    def __init__(self, folder: RunFolder, score: str, patience: int, since: int = 0) -> None:
        super().__init__()
        self.folder, self.score, self.patience, self.since = folder, score, patience, since

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if has_stopped(self.folder, self.score, self.patience, self.since):
            _log.info(
                "Stopped after epoch %d: no better %s in %d evaluations (`patience`).",
                epoch + 1,
                self.score,
                self.patience,
            )
            self.model.stop_training = True


def describe_best(folder: RunFolder, score: str, chosen_on: str) -> dict[str, Any]:
    """Returns the entries of `results.json` about the choice of the best epoch.

    Args:
        folder: Run folder with the weights of the best epoch.
        score: Name of the metric that decided.
        chosen_on: `"validation"` or `"test"`, the split that was evaluated.

    Returns:
        `{"chosen_on", "chosen_by", "evaluations", "best_epoch", "last_epoch"}`. The last two are
        rows of the log, or `None` if it lacks them.
    """
    log = folder.read_log()
    best = saved_epochs(folder.best, otherwise=0) - 1  # earlier versions did not record it
    return {
        "chosen_on": chosen_on,
        "chosen_by": score,
        "evaluations": len(known_scores(log, score)),
        "best_epoch": next((_measured(row) for row in log if row["epoch"] == best), None),
        "last_epoch": _measured(log[-1]) if log else None,
    }


def _measured(row: Mapping[str, float]) -> dict[str, float]:
    """Returns a row of the log without NaN, which JSON cannot hold."""
    return {name: value for name, value in row.items() if not math.isnan(value)}


def summarize(folder: RunFolder) -> str:
    """Returns the last lines of a finished run: scores, where they are, and the threshold."""
    first = f"{read_scores(folder)}. Everything is in {folder.path}/"
    return "\n".join(filter(None, (first, read_threshold(folder))))


def read_scores(folder: RunFolder) -> str:
    """Returns a line of text: the main scores of a finished run, and which epoch has them."""
    results = json.loads(folder.results.read_text(encoding="utf-8"))
    if "test_accuracy" in results:
        scores = f"Test accuracy {results['test_accuracy']:.4f}"
    else:
        names = [name for name in ("AP", "AP50", "AP_small") if results[name] >= 0]
        scores = ", ".join(f"{name} {results[name]:.3f}" for name in names)
    return scores + _explain_choice(results)


def read_threshold(folder: RunFolder) -> str | None:
    """Returns a line of text: the confidence to deploy a detector with; `None` if unknown."""
    validated = folder.validation_scores.is_file()
    scores = folder.validation_scores if validated else folder.scores
    best = json.loads(scores.read_text("utf-8")).get("best_f1") if scores.is_file() else None
    if not best or best["confidence"] < 0:  # a classifier, or a detector that finds nothing
        return None
    options = f"--confidence {best['confidence']:.3f}"
    source: Any = load_recipe(folder.recipe).data
    if tile := getattr(source, "tile", None):
        options += f" --tile {tile[0]}x{tile[1]}"
        if source.tile_overlap != type(source).model_fields["tile_overlap"].default:
            options += f" --overlap {source.tile_overlap:g}"
    data = "validation" if validated else "test"
    return f"Best F1 {best['F1']:.3f} on the {data} data, with `keras-spd predict {options}`."


def _explain_choice(results: Mapping[str, Any]) -> str:
    """Returns which epoch was scored and how it was chosen, if it was one of several.

    If it was chosen on the test data, the score is too high on average, as any maximum of noisy
    values is.
    """
    if results.get("evaluations", 0) < 2:
        return ""
    epoch = "the best epoch"
    if (best := results["best_epoch"]) and (last := results["last_epoch"]):
        epoch = f"epoch {best['epoch'] + 1:.0f} of {last['epoch'] + 1:.0f}"
    if results["chosen_on"] == "validation":
        return f" with the weights of {epoch}, the best on the validation data"
    return (
        f" with the weights of {epoch}, the best on the same test data, so the score is "
        "optimistic (`--validation 0.1` holds out training data to choose on)"
    )
