"""The optimizer of a recipe: its kind, and updates from several batches."""

import re

import keras
import numpy as np
import pytest
from tiny import tiny_classifier

from keras_spd import data
from keras_spd.detection import YOLOV5Loss
from keras_spd.optimizers import CoupledSGD
from keras_spd.training import load_recipe, train
from keras_spd.training.announce import warn_of_schedule
from keras_spd.training.distribution import Distribution
from keras_spd.training.optimizer import make_optimizer


@pytest.mark.parametrize(("steps", "decay"), [(1, 0.01), (16, 0.75), (459, 0.99), (5000, 0.99)])
def test_the_average_forgets_the_first_weights(steps, decay):
    recipe = load_recipe("fast", overrides={"epochs": steps})
    optimizer = make_optimizer(recipe, steps_per_epoch=1)
    assert optimizer.ema_momentum == pytest.approx(decay, abs=1e-3)
    assert optimizer.ema_momentum**steps < 0.0101


@pytest.mark.parametrize(
    ("recipe", "epochs", "words"),
    [
        ("modern", 5, "The learning rate rises for 100 % of the run. Lower `schedule.warmup_epo"),
        ("modern", 300, ""),
        ("paper_cifar10", 20, r"never falls: no epoch of `schedule.milestones`, \[60, 120, 160\]"),
        ("paper_cifar10", 60, ""),
        ("fast", 1, ""),
    ],
)
def test_a_rate_that_does_not_fall_is_warned_of(recipe, epochs, words, caplog):
    warn_of_schedule(load_recipe(recipe, overrides={"epochs": epochs}), 10)
    assert re.search(words, caplog.text) if words else not caplog.text


def recipe_of(**fields):
    overrides = {f"optimizer.{name}": value for name, value in fields.items()}
    return load_recipe("demo", overrides=overrides)


@pytest.mark.slow
def test_adamw(caplog):
    fields = {"name": "adamw", "weight_decay": 0.05, "momentum": 0.8, "average": 0.99}
    optimizer = make_optimizer(
        recipe_of(**fields, learning_rate=0.001, decay_kernels_only=True), steps_per_epoch=1000
    )
    assert isinstance(optimizer, keras.optimizers.AdamW) and not caplog.text
    config = optimizer.get_config()
    assert (config["weight_decay"], config["beta_1"], config["ema_momentum"]) == (0.05, 0.8, 0.99)
    variables = [keras.Variable([1.0], name=name) for name in ("kernel", "bias")]
    for _ in range(20):
        optimizer.apply([keras.ops.zeros(1)] * 2, variables)
    assert float(variables[0][0]) < 1 and float(variables[1][0]) == 1
    make_optimizer(recipe_of(name="adamw", learning_rate=0.1), 10)
    assert "AdamW hardly learns at rates above 0.01, and `optimizer.learning_rate` is 0.1" in (
        caplog.text
    )


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_two_batches_make_one_update(rng, name):
    """The same as with batches of twice the size, at the rate of the last batch."""
    weights, gradients = rng.normal(size=3).astype("float32"), rng.normal(size=(8, 3))
    results = []
    for batches in (1, 2):
        recipe = recipe_of(name=name, learning_rate=0.01, accumulate_batches=batches)
        recipe = recipe.model_copy(
            update={"schedule": recipe.schedule.model_copy(update={"warmup_epochs": 0})}
        )
        optimizer = make_optimizer(recipe, 1_000_000)  # the rate hardly changes
        variable = keras.Variable(weights)
        for gradient in gradients.reshape(-1, 3 - batches, 3).mean(axis=1):
            optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
        results.append(np.array(variable))
    np.testing.assert_allclose(*results, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_all_gradients_are_clipped_together(name):
    assert make_optimizer(recipe_of(name=name), 10).global_clipnorm is None
    assert make_optimizer(recipe_of(name=name, clip_norm=5), 10).global_clipnorm == 5


def test_the_warm_up_of_biases_counts_updates():
    recipe = recipe_of(accumulate_batches=4)
    optimizer = make_optimizer(recipe, 10)
    assert isinstance(optimizer, CoupledSGD)
    assert optimizer.warmup_steps == -(-round(10 * recipe.schedule.warmup_epochs) // 4) > 0


def test_the_loss_of_a_detector_counts_the_images_of_all_batches():
    loss, parts = YOLOV5Loss(3), {"box_loss": 1.0, "objectness_loss": 2.0, "class_loss": 3.0}
    assert loss.total(parts, 4) == 24
    loss.accumulated_batches = 2
    assert loss.total(parts, 4) == 48


def test_accumulation_is_for_one_device():
    Distribution(replicas=2).check_accumulation(1)
    with pytest.raises(ValueError, match="Received: accumulate_batches=4 and 2 devices"):
        Distribution(replicas=2).check_accumulation(4)


@pytest.mark.slow
def test_a_run_resumes_between_two_batches_of_an_update(tmp_path, interrupt_after):
    """An epoch has three batches, and an update two."""
    images, labels = data.load_blood_cells("train").batches(32)[0]
    parts = slice(24), slice(24, 32)
    train_data, test_data = (data.from_arrays(images[p, ::2, ::2], labels[p]) for p in parts)
    given = {"train_data": train_data, "test_data": test_data, "verbose": 0}
    fields = {"name": "adamw", "learning_rate": 0.001, "accumulate_batches": 2}
    recipe = recipe_of(**fields).model_copy(update={"epochs": 2, "batch_size": 8})
    given["model"] = tiny_classifier()
    unbroken = train(recipe, tmp_path / "unbroken", **given)
    interrupt_after(1)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "stopped", **given)
    resumed = train(recipe, tmp_path / "stopped", **given, resume=True)
    for ours, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
