"""Re-estimates batch norms before a classifier is evaluated in training."""

from typing import Any

import keras

from keras_spd.training.batch_norms import copy_batch_norms, estimate_batch_norms, freeze_alike
from keras_spd.training.distribution import on_one_device


class PreciseBatchNorm(keras.callbacks.Callback):
    """Estimates the statistics of batch norms from training images, before each evaluation.

    Args:
        task: `ClassificationTask`. Its recipe's `precise_batch_norm` is the number of images.
        twin: The same network on one device; `None` for the model itself.
    """

    def __init__(self, task: Any, twin: keras.Model | None) -> None:
        super().__init__()
        self.task, self.twin = task, twin

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        del logs
        recipe = self.task.recipe
        if not recipe.is_evaluated(epoch):
            return
        steps = -(-recipe.precise_batch_norm // recipe.batch_size)
        steps = min(steps, self.task.train_data.steps_per_epoch(recipe.batch_size))
        with on_one_device(self.model, self.twin) as model:
            freeze_alike(self.model, model)
            estimate_batch_norms(model, self.task.precise_batches(epoch), steps)
            copy_batch_norms(model, self.model)
