"""Scores a classifier after an epoch of training."""

from typing import Any

import keras

from keras_spd.training.batch_norms import copy_batch_norms, estimate_batch_norms, freeze_alike
from keras_spd.training.distribution import on_one_device


class Validate(keras.callbacks.Callback):
    """Evaluates on one device after an epoch, as `fit` would.

    Args:
        task: `ClassificationTask`.
        twin: The same network on one device, compiled; `None` for the model itself.
    """

    def __init__(self, task: Any, twin: keras.Model | None) -> None:
        super().__init__()
        self.task, self.twin = task, twin
        self.batches = task.validation_batches()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        recipe = self.task.recipe
        if (epoch + 1) % recipe.evaluate_every != 0 and epoch + 1 != recipe.epochs:
            return
        with on_one_device(self.model, self.twin) as model:
            if recipe.precise_batch_norm:
                steps = -(-recipe.precise_batch_norm // recipe.batch_size)
                steps = min(steps, self.task.train_data.steps_per_epoch(recipe.batch_size))
                freeze_alike(self.model, model)
                estimate_batch_norms(model, self.task.precise_batches(epoch), steps)
                copy_batch_norms(model, self.model)
            metrics = model.evaluate(self.batches, return_dict=True, verbose=0)
        if logs is not None:
            logs |= {f"val_{name}": value for name, value in metrics.items()}
