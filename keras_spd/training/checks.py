"""Checks of a recipe before its run, beyond those of single fields."""

from typing import Any

from keras_spd.training.fields import Recipe
from keras_spd.training.given import has_start


def check_recipe(recipe: Any) -> None:
    """Raises a `TypeError` unless `recipe` is a `Recipe` or `None`."""
    if not isinstance(recipe, Recipe | None):
        raise TypeError(
            "`recipe` must be a `Recipe`, such as `keras_spd.training.load_recipe("
            f'"short", task="detection")`, or `None` to resume. Received: {recipe!r}.'
        )


def check_updates(recipe: Recipe, steps_per_epoch: int) -> None:
    """Raises a `ValueError` if a run has too few batches for a single update."""
    batches = steps_per_epoch * recipe.epochs
    if batches < recipe.optimizer.accumulate_batches:
        raise ValueError(
            "`optimizer.accumulate_batches` must be at most the number of batches of the run, "
            f"{batches}, or no weight is updated. Received: "
            f"{recipe.optimizer.accumulate_batches}."
        )


def check_quantize_aware(recipe: Recipe) -> None:
    """Raises a `ValueError` if a run for 8 bits has no trained weights, or another precision."""
    if not recipe.quantize_aware:
        return
    if not has_start(recipe):
        raise ValueError(
            "`quantize_aware` adapts a trained model to 8 bits. Pass it: `--weights`, or `model` "
            "in Python."
        )
    if recipe.precision != "float32":
        raise ValueError(
            "`quantize_aware` trains in float32: other precisions round 8-bit kernels again. "
            f'Received: precision="{recipe.precision}". Set `precision="float32"`.'
        )
