"""Builds the optimizer of a recipe, with its schedule."""

import logging
from typing import Any

import keras

from keras_spd.optimizers import CoupledSGD, MultiStepDecay, TriangularDecay
from keras_spd.training.fields import Optimizer, Recipe

_log = logging.getLogger(__name__)
_LARGEST_ADAMW_RATE = 0.01
_LARGEST_REST = 0.01  # of the first weights, in the average at the end of a run


def warmup_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """Returns the number of steps in which the learning rate rises."""
    schedule = recipe.schedule
    steps = round(schedule.warmup_epochs * steps_per_epoch)
    if schedule.warmup_fraction is not None:
        steps = round(schedule.warmup_fraction * recipe.epochs * steps_per_epoch)
    return steps if schedule.warmup_steps is None else min(steps, schedule.warmup_steps)


def make_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a recipe, with its schedule."""
    options, schedule = recipe.optimizer, recipe.schedule
    total_steps = recipe.epochs * steps_per_epoch
    warmup = warmup_steps(recipe, steps_per_epoch)
    if schedule.name == "multistep":
        rate = MultiStepDecay(
            options.learning_rate,
            [(epoch - 1) * steps_per_epoch for epoch in schedule.milestones],
            schedule.factor,
            warmup,
        )
    elif schedule.name == "triangular":
        rate = TriangularDecay(options.learning_rate, total_steps, warmup, schedule.final_factor)
    else:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else options.learning_rate,
            max(total_steps - warmup, 1),
            alpha=schedule.final_factor,
            warmup_target=options.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    batches = options.accumulate_batches
    shared: dict[str, Any] = {
        "weight_decay": options.weight_decay,
        "use_ema": options.average is not None,
        "ema_momentum": _average(options.average or 0.99, total_steps),
        "gradient_accumulation_steps": batches if batches > 1 else None,
        "global_clipnorm": options.clip_norm,
    }
    if options.name == "adamw":
        return _adamw(options, rate, shared)
    return CoupledSGD(
        rate,
        momentum=options.momentum,
        nesterov=options.nesterov,
        decay_kernels_only=options.decay_kernels_only,
        warmup_steps=-(-warmup // batches),  # the schedule counts batches, this one updates
        warmup_bias_rate=schedule.warmup_bias_rate,
        warmup_momentum=schedule.warmup_momentum,
        **shared,
    )


def _average(decay: float, steps: int) -> float:
    """Returns the decay of a moving average in which the first weights count 1 % at most."""
    return min(decay, _LARGEST_REST ** (1 / steps))


def _adamw(options: Optimizer, rate: Any, shared: dict[str, Any]) -> keras.optimizers.AdamW:
    if options.learning_rate > _LARGEST_ADAMW_RATE:
        _log.warning(
            "AdamW hardly learns at rates above %g, and `optimizer.learning_rate` is %g. Set it to "
            "0.001, for example.",
            _LARGEST_ADAMW_RATE,
            options.learning_rate,
        )
    optimizer = keras.optimizers.AdamW(rate, beta_1=options.momentum, **shared)
    if options.decay_kernels_only:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
