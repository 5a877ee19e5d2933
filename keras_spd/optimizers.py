"""The authors' optimizer, and learning-rate schedules that Keras does not have."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_spd import keras_internals
from keras_spd.typing import Tensor

__all__ = ["CoupledSGD", "MultiStepDecay", "TriangularDecay", "paper_optimizer"]

_BIASES = ("bias", "beta")


@keras.saving.register_keras_serializable(package="keras_spd")
class CoupledSGD(keras.optimizers.SGD):
    """SGD as in PyTorch, with weight decay added to the gradient.

    ```
    gradient += weight_decay * variable
    momentum_buffer = momentum * momentum_buffer + gradient
    variable -= learning_rate * momentum_buffer
    ```

    `keras.optimizers.SGD(weight_decay=...)` subtracts `learning_rate * weight_decay * variable`
    outside the momentum ("decoupled"), which is weaker by a factor of `1 / (1 - momentum)`: 10 at
    momentum 0.9. It also multiplies the learning rate into the momentum buffer, so a change of
    the rate takes effect slowly. Here, as in PyTorch, it takes effect at once.

    Args:
        learning_rate: Number or schedule.
        momentum: Number between 0 and 1.
        nesterov: Boolean, whether to use Nesterov momentum: the step is
            `gradient + momentum * momentum_buffer`.
        weight_decay: Number, the coupled decay of every trainable variable, including batch norms
            and biases, as in the authors' ResNets. Exclude variables with Keras'
            `exclude_from_weight_decay`.
        decay_kernels_only: Boolean, whether to exclude batch norms and biases from the decay, as
            in the authors' detectors.
        warmup_steps: Integer, the number of steps for the next two arguments. The rate of all
            other variables follows `learning_rate`, usually a schedule that starts at 0.
        warmup_bias_rate: Number, added to the rate of biases in the first step; it decreases
            linearly to 0 until the end of the warm-up. With a schedule that starts at 0, it is the
            initial rate of biases.
        warmup_momentum: Number, the momentum of the first step; `None` for `momentum`. Ignored
            if `momentum` is 0.
        **kwargs: Arguments of `keras.optimizers.SGD`.

    Example:

    >>> optimizer = keras_spd.optimizers.CoupledSGD(0.1, momentum=0.9, weight_decay=5e-4)

    Source: `torch.optim.SGD`; `ResNet50-SPD/train.py` and `YOLOv5-SPD/train.py` of
    LabSAINT/SPD-Conv.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        *,
        decay_kernels_only: bool = False,
        warmup_steps: int = 0,
        warmup_bias_rate: float = 0.0,
        warmup_momentum: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum=momentum, nesterov=nesterov, **kwargs)
        self.coupled_weight_decay = weight_decay
        self.decay_kernels_only = decay_kernels_only
        self.warmup_steps = warmup_steps
        self.warmup_bias_rate = warmup_bias_rate
        self.warmup_momentum = warmup_momentum
        self._scalars: Any = None  # of `apply`

    def apply(
        self, grads: Sequence[Tensor], trainable_variables: Sequence[keras.Variable] | None = None
    ) -> None:
        # Once for all variables: in `update_step` these scalars would be a quarter of all operators
        # of a step, and of the time that its graph takes to build.
        self._scalars = self._compute_scalars()
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._scalars = None  # a tensor keeps its graph in memory

    def _compute_scalars(self) -> tuple[Tensor | float, Tensor | float]:
        """Returns what is added to the rate of biases, and the momentum, in this step."""
        if not self.warmup_steps:
            return 0.0, self.momentum
        left = 1 - ops.minimum(ops.cast(self.iterations, "float32") / self.warmup_steps, 1.0)
        momentum = self.momentum
        if self.warmup_momentum is not None:
            momentum = momentum + left * (self.warmup_momentum - momentum)
        return left * self.warmup_bias_rate, momentum

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        bias_rate, momentum = self._scalars
        learning_rate = ops.cast(learning_rate, variable.dtype)
        if self.warmup_steps and keras_internals.variable_name(self, variable) in _BIASES:
            learning_rate = learning_rate + ops.cast(bias_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        if self._decays(variable):
            gradient = gradient + self.coupled_weight_decay * variable
        step = gradient
        if self.momentum:
            buffer = self.momentums[keras_internals.variable_index(self, variable)]
            momentum = ops.cast(momentum, variable.dtype)
            step = momentum * buffer + gradient
            self.assign(buffer, step)
            if self.nesterov:
                step = gradient + momentum * step
        self.assign_sub(variable, learning_rate * step)

    def _decays(self, variable: keras.Variable) -> bool:
        if not self.coupled_weight_decay or not keras_internals.uses_weight_decay(self, variable):
            return False
        return len(variable.shape) > 1 or not self.decay_kernels_only

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "weight_decay": self.coupled_weight_decay,
            "decay_kernels_only": self.decay_kernels_only,
            "warmup_steps": self.warmup_steps,
            "warmup_bias_rate": self.warmup_bias_rate,
            "warmup_momentum": self.warmup_momentum,
        }


@keras.saving.register_keras_serializable(package="keras_spd")
class MultiStepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up from 0, then a constant rate that drops at milestones.

    Args:
        learning_rate: Number, the rate after the warm-up.
        milestones: List of integers, the steps at which the rate is multiplied by `factor`.
        factor: Number.
        warmup_steps: Integer. Step `t` of the warm-up has the rate
            `learning_rate * t / warmup_steps`, so the first step has the rate 0, as in the
            authors' code.

    Example:

    >>> schedule = keras_spd.optimizers.MultiStepDecay(0.1, [6000, 8000], 0.2, warmup_steps=100)

    Source: `WarmUpLR` in `ResNet50-SPD/utils.py` of LabSAINT/SPD-Conv, and PyTorch's `MultiStepLR`.
    """

    def __init__(
        self, learning_rate: float, milestones: Sequence[int], factor: float, warmup_steps: int = 0
    ) -> None:
        self.learning_rate = learning_rate
        self.milestones = list(milestones)
        self.factor = factor
        self.warmup_steps = warmup_steps

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        rate = self.learning_rate * ops.ones_like(step)
        for milestone in self.milestones:
            rate = ops.where(step >= milestone, rate * self.factor, rate)
        warmup = self.learning_rate * step / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, warmup, rate)

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "milestones": self.milestones,
            "factor": self.factor,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable(package="keras_spd")
class TriangularDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A triangular schedule: a linear warm-up from 0, then a linear decay.

    Args:
        learning_rate: Number, the peak.
        decay_steps: Integer, the number of steps of the whole run.
        warmup_steps: Integer, the step at which the peak is reached.
        final_factor: Number, the rate at the end as a fraction of the peak.

    Example:

    >>> rate = keras_spd.optimizers.TriangularDecay(0.4, decay_steps=100, warmup_steps=20)
    >>> [round(float(rate(step)), 2) for step in (0, 10, 20, 60, 100)]
    [0.0, 0.2, 0.4, 0.2, 0.0]

    Source: Smith and Topin, "Super-Convergence", 2018, https://arxiv.org/abs/1708.07120.
    """

    def __init__(
        self,
        learning_rate: float,
        decay_steps: int,
        warmup_steps: int = 0,
        final_factor: float = 0.0,
    ) -> None:
        self.learning_rate = learning_rate
        self.decay_steps = decay_steps
        self.warmup_steps = warmup_steps
        self.final_factor = final_factor

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        fall = max(self.decay_steps - self.warmup_steps, 1)
        done = ops.minimum((step - self.warmup_steps) / fall, 1.0)
        rate = self.learning_rate * (1 - (1 - self.final_factor) * done)
        warmup = self.learning_rate * step / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, warmup, rate)

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "decay_steps": self.decay_steps,
            "warmup_steps": self.warmup_steps,
            "final_factor": self.final_factor,
        }


def paper_optimizer(
    learning_rate: float = 0.01,
    *,
    weight_decay: float = 5e-4,
    warmup_steps: int = 1000,
    global_clipnorm: float | None = None,
) -> CoupledSGD:
    """Returns the paper's optimizer for detectors.

    It is SGD with Nesterov momentum and weight decay on kernels only. During the warm-up, biases
    start at a high rate and the momentum is lower.

    Args:
        learning_rate: Number, the rate after the warm-up.
        weight_decay: Number, coupled as in PyTorch.
        warmup_steps: Integer, the length of the warm-up.
        global_clipnorm: Number, the norm that all gradients together are clipped to; `None` for no
            clipping.

    Returns:
        `CoupledSGD`.

    Example:

    >>> model.compile(keras_spd.optimizers.paper_optimizer(0.001))

    Source: section 4.1 of the paper (0.937, 5e-4, rate 0.01), `YOLOv5-SPD/train.py` of
    LabSAINT/SPD-Conv, and YOLOv5 v6.0's `hyp.scratch.yaml`, which that code needs but does not
    include.
    """
    return CoupledSGD(
        MultiStepDecay(learning_rate, [], 1.0, warmup_steps),
        momentum=0.937,
        nesterov=True,
        weight_decay=weight_decay,
        decay_kernels_only=True,
        warmup_steps=warmup_steps,
        warmup_bias_rate=0.1,
        warmup_momentum=0.8,
        global_clipnorm=global_clipnorm,
    )
