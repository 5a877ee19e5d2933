"""Scores a classifier after an epoch of training."""

from typing import Any

import keras

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
        if not self.task.recipe.is_evaluated(epoch):
            return
        with on_one_device(self.model, self.twin) as model:
            metrics = model.evaluate(self.batches, return_dict=True, verbose=0)
        if logs is not None:
            logs |= {f"val_{name}": value for name, value in metrics.items()}
