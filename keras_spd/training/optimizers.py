"""The optimizer and the learning-rate schedule of the authors' PyTorch code."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_spd")
class CoupledSGD(keras.optimizers.SGD):
    """SGD as PyTorch computes it, with weight decay inside the gradient.

    ```
    gradient += weight_decay * variable
    momentum_buffer = momentum * momentum_buffer + gradient
    variable -= learning_rate * momentum_buffer
    ```

    `keras.optimizers.SGD(weight_decay=...)` subtracts `learning_rate * weight_decay * variable`
    beside the momentum ("decoupled"), which is weaker by `1 / (1 - momentum)`: 10 times at
    momentum 0.9. It also keeps the learning rate in the momentum buffer, so a change of the rate
    takes effect slowly; here, as in PyTorch, at once.

    Args:
        learning_rate: Number or schedule.
        momentum: Number between 0 and 1.
        nesterov: Boolean: step along `gradient + momentum * momentum_buffer`.
        weight_decay: Number, the coupled decay, of every trainable variable: batch norms and
            biases included, as in the authors' ResNets. `exclude_from_weight_decay` of Keras'
            optimizers names exceptions.
        **kwargs: Arguments of `keras.optimizers.SGD`.

    Source: `torch.optim.SGD`; `ResNet50-SPD/train.py` of LabSAINT/SPD-Conv.
    """

    def __init__(
        self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=None, **kwargs
    ):
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, **kwargs)
        self.coupled_weight_decay = weight_decay

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        if self.coupled_weight_decay and self._use_weight_decay(variable):
            gradient = gradient + self.coupled_weight_decay * variable
        step = gradient
        if self.momentum:
            buffer = self.momentums[self._get_variable_index(variable)]
            self.assign(buffer, self.momentum * buffer + gradient)
            step = gradient + self.momentum * buffer if self.nesterov else buffer
        self.assign_sub(variable, learning_rate * step)

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.coupled_weight_decay}


@keras.saving.register_keras_serializable(package="keras_spd")
class MultiStepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up from 0, then a constant rate that drops at milestones.

    Args:
        learning_rate: Number, the rate after the warm-up.
        milestones: Steps at which the rate is multiplied by `factor`.
        factor: Number.
        warmup_steps: Integer: step `t` of the warm-up has the rate
            `learning_rate * t / warmup_steps`, so the very first has 0, as in the authors' code.

    Source: `WarmUpLR` in `ResNet50-SPD/utils.py` of LabSAINT/SPD-Conv, and PyTorch's `MultiStepLR`.
    """

    def __init__(self, learning_rate, milestones, factor, warmup_steps=0):
        self.learning_rate = learning_rate
        self.milestones = list(milestones)
        self.factor = factor
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = self.learning_rate * ops.ones_like(step)
        for milestone in self.milestones:
            rate = ops.where(step >= milestone, rate * self.factor, rate)
        warmup = self.learning_rate * step / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, warmup, rate)

    def get_config(self):
        return {
            "learning_rate": self.learning_rate,
            "milestones": self.milestones,
            "factor": self.factor,
            "warmup_steps": self.warmup_steps,
        }
