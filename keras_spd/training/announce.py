"""What a run logs before its first step: the cost of the model, and the images of each split."""

import logging

import keras

from keras_spd import machine
from keras_spd.surgery.cost import count_multiply_adds
from keras_spd.training.callbacks import Task
from keras_spd.training.fields import Recipe
from keras_spd.training.optimizer import warmup_steps

_log = logging.getLogger(__name__)


def log_cost(model: keras.Model, recipe: Recipe) -> None:
    """Logs the cost of a model for the images of a recipe."""
    try:
        multiply_adds = count_multiply_adds(model, recipe.data.image_size)
        cost = f"{multiply_adds / 1e9:.3f} G multiply-adds per image"
    except ValueError:  # a subclassed model, or a nested one of unknown size
        cost = "an unknown number of multiply-adds"
    _log.info("%s: %s parameters, %s.", model.name, f"{model.count_params():,}", cost)


def warn_of_missing_onednn() -> None:
    """Warns of slow training on a CPU, if TensorFlow was imported before `keras_spd`."""
    if machine.lacks_onednn():
        _log.warning(
            "TensorFlow was imported before keras_spd, so it trains without oneDNN. On CPUs like "
            "this one, a step takes up to 3.5 times as long. Import keras_spd first, or set "
            "TF_ENABLE_ONEDNN_OPTS=1."
        )


def warn_of_schedule(recipe: Recipe, steps_per_epoch: int) -> None:
    """Warns if the learning rate does not fall in a run, because the run is short."""
    steps = recipe.epochs * steps_per_epoch
    if (warmup := warmup_steps(recipe, steps_per_epoch)) > 0.5 * steps:
        _log.warning(
            "The learning rate rises for %.0f %% of the run. Lower `schedule.warmup_epochs`, or "
            "raise `epochs`.",
            100 * min(warmup / steps, 1),
        )
    schedule = recipe.schedule
    if schedule.name == "multistep" and not any(m <= recipe.epochs for m in schedule.milestones):
        _log.warning(
            "The learning rate never falls: no epoch of `schedule.milestones`, %s, is among the "
            'first %d. Lower them, or set `schedule.name="cosine"`.',
            schedule.milestones,
            recipe.epochs,
        )


def log_splits(task: Task) -> None:
    """Logs what the best epoch is chosen on, if there are several evaluations."""
    if task.recipe.epochs <= task.recipe.evaluate_every:
        return
    if task.splits.validation is None:
        _log.info(
            "The best epoch is chosen on the test data, so the test score will be optimistic. "
            "To avoid this, set `data.validation` (`--validation`), such as to 0.1."
        )
    else:
        parts = (task.splits.train, task.splits.validation, task.splits.test)
        counts = [data.num_images for data in parts]
        _log.info("Images: %d to train on, %d for validation, %d to test on.", *counts)
