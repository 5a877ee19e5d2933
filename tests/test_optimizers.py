"""The optimizer and schedule against PyTorch's formulas in NumPy."""

import keras
import numpy as np
import pytest

from keras_spd.optimizers import CoupledSGD, MultiStepDecay, TriangularDecay


@pytest.mark.parametrize("nesterov", [False, True])
def test_ten_steps(rng, nesterov):
    """Weight decay is inside the gradient, and a drop of the learning rate acts at once."""
    weights, bias = rng.normal(size=(3, 2)), rng.normal(size=2)
    variables = [keras.Variable(weights), keras.Variable(bias)]
    optimizer = CoupledSGD(
        MultiStepDecay(0.1, [4, 7], 0.2, warmup_steps=2),
        momentum=0.9,
        nesterov=nesterov,
        weight_decay=0.05,
    )
    expected = [weights.copy(), bias.copy()]
    buffers = [np.zeros_like(array) for array in expected]
    for step in range(10):
        gradients = [rng.normal(size=array.shape) for array in expected]
        optimizer.apply([keras.ops.convert_to_tensor(g, "float32") for g in gradients], variables)
        rate = [0, 0.05, 0.1, 0.1, 0.02, 0.02, 0.02, 0.004, 0.004, 0.004][step]
        for index, gradient in enumerate(gradients):
            gradient = gradient + 0.05 * expected[index]
            buffers[index] = 0.9 * buffers[index] + gradient
            update = gradient + 0.9 * buffers[index] if nesterov else buffers[index]
            expected[index] = expected[index] - rate * update
    for variable, array in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), array, rtol=1e-5, atol=1e-6)


def test_the_warm_up_of_biases_and_momentum(rng):
    """`np.interp` of `YOLOv5-SPD/train.py`: biases start fast, momentum starts low."""
    variables = [keras.Variable([1.0], name=name) for name in ("kernel", "bias", "beta", "gamma")]
    warmup = {"warmup_steps": 4, "warmup_bias_rate": 0.1, "warmup_momentum": 0.8}
    schedule = MultiStepDecay(0.01, [], 1.0, warmup_steps=4)
    optimizer = CoupledSGD(schedule, momentum=0.937, nesterov=True, **warmup)
    expected, buffers = np.ones(4), np.zeros(4)
    for step in range(6):
        gradients = rng.normal(size=4)
        optimizer.apply([keras.ops.convert_to_tensor([g], "float32") for g in gradients], variables)
        slow, fast = (np.interp(step, [0, 4], [start, 0.01]) for start in (0, 0.1))
        momentum = np.interp(step, [0, 4], [0.8, 0.937])
        buffers = momentum * buffers + gradients
        expected -= np.array([slow, fast, fast, slow]) * (gradients + momentum * buffers)
        found = [float(variable[0]) for variable in variables]
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=f"step {step}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "left"), [(CoupledSGD, 0.955), (keras.optimizers.SGD, 0.995)]
)
def test_decay_is_not_that_of_keras(optimizer, left):
    """A weight of 1 after 100 steps without a gradient, at the paper's settings for CIFAR-10."""
    variable = keras.Variable([1.0])
    optimizer = optimizer(0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(100):
        optimizer.apply([keras.ops.zeros(1)], [variable])
    assert float(variable[0]) == pytest.approx(left, abs=5e-4)


def test_exceptions_from_decay():
    kernel, bias = keras.Variable([1.0], name="kernel"), keras.Variable([1.0], name="bias")
    optimizer = CoupledSGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([keras.ops.zeros(1)] * 2, [kernel, bias])
    assert float(kernel[0]) == pytest.approx(0.95)
    assert float(bias[0]) == 1


def test_configs():
    schedule = MultiStepDecay(0.1, [4, 7], 0.2, warmup_steps=2)
    optimizer = CoupledSGD(schedule, momentum=0.8, nesterov=True, weight_decay=0.05, clipnorm=1.0)
    twin = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(twin, CoupledSGD)
    assert twin.get_config() == optimizer.get_config()
    assert twin.get_config()["weight_decay"] == 0.05
    assert twin._learning_rate.get_config() == schedule.get_config()


def test_the_triangle_rises_and_falls_linearly():
    rate = TriangularDecay(0.4, decay_steps=100, warmup_steps=20, final_factor=0.1)
    rates = [float(rate(step)) for step in (0, 10, 20, 60, 100, 150)]
    assert rates == pytest.approx([0, 0.2, 0.4, 0.22, 0.04, 0.04])
    twin = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(rate))
    assert twin.get_config() == rate.get_config()
