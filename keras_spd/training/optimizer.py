"""Builds the optimizer of a recipe, with its schedule."""

import keras

from keras_spd.optimizers import CoupledSGD, MultiStepDecay, TriangularDecay
from keras_spd.training.fields import Recipe


def make_optimizer(recipe: Recipe, steps_per_epoch: int) -> CoupledSGD:
    """Returns the optimizer of a recipe, with its schedule."""
    options, schedule = recipe.optimizer, recipe.schedule
    total_steps = recipe.epochs * steps_per_epoch
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    if schedule.warmup_fraction is not None:
        warmup_steps = round(schedule.warmup_fraction * total_steps)
    if schedule.warmup_steps is not None:
        warmup_steps = min(warmup_steps, schedule.warmup_steps)
    if schedule.name == "multistep":
        rate = MultiStepDecay(
            options.learning_rate,
            [(epoch - 1) * steps_per_epoch for epoch in schedule.milestones],
            schedule.factor,
            warmup_steps,
        )
    elif schedule.name == "triangular":
        rate = TriangularDecay(
            options.learning_rate, total_steps, warmup_steps, schedule.final_factor
        )
    else:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else options.learning_rate,
            max(total_steps - warmup_steps, 1),
            alpha=schedule.final_factor,
            warmup_target=options.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    return CoupledSGD(
        rate,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        decay_kernels_only=options.decay_kernels_only,
        warmup_steps=warmup_steps,
        warmup_bias_rate=schedule.warmup_bias_rate,
        warmup_momentum=schedule.warmup_momentum,
        use_ema=options.average is not None,
        ema_momentum=options.average or 0.99,
    )
