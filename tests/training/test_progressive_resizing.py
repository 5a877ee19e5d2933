"""Training on images that grow: what is trained on, evaluated and resumed."""

import keras
import numpy as np
import pytest
from tiny import tiny_classifier

from keras_spd import data
from keras_spd.training import load_recipe, train
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.run_folder import RunFolder


@pytest.fixture
def cells():
    images, labels = data.load_blood_cells("train").batches(64)[0]
    images = images[:, ::2, ::2]
    parts = slice(32), slice(32, 48)
    train_data, test_data = (data.from_arrays(images[part], labels[part]) for part in parts)
    return {"train_data": train_data, "test_data": test_data}


@pytest.fixture
def recipe():
    few = {"epochs": 4, "batch_size": 16, "precise_batch_norm": 32, "optimizer.average": 0.5}
    few |= {"optimizer.learning_rate": 0.005, "precision": "float32"}
    sizes = {"initial_scale": 0.5, "delay_fraction": 0.3, "finetune_fraction": 0.5}
    sizes["size_increment"] = 8
    few |= {f"progressive_resizing.{name}": value for name, value in sizes.items()}
    return load_recipe("fast", overrides=few)


def test_batches_and_evaluations(cells, recipe):
    task = ClassificationTask(recipe, **cells)
    assert task.size_changes == (2,)
    for first, last, side in ((0, 2, 8), (2, 4, 16)):
        images, labels = next(iter(task.train_batches(first, last)))
        assert images.shape == (16, side, side, 3)
        assert labels.shape == (16, 3)
    for batches in (task.validation_batches(), task.precise_batches(0)):
        assert next(iter(batches))[0].shape[1:3] == (16, 16)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_run_resumes_across_sizes_as_if_unbroken(
    tmp_path, cells, recipe, interrupt_after, precision
):
    recipe = recipe.model_copy(update={"precision": precision})
    options = {"model": tiny_classifier(), "verbose": 0, **cells}
    unbroken = train(recipe, tmp_path / "unbroken", **options)
    assert unbroken.input_shape == (None, 16, 16, 3)
    interrupt_after(1, 2, 3)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "stopped", resume=True, **options)
    resumed = train(None, tmp_path / "stopped", resume=True, verbose=0, **cells)
    rows, expected = (RunFolder(tmp_path / name).read_log() for name in ("stopped", "unbroken"))
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert [np.isnan(row["val_accuracy"]) for row in rows] == [True, False, True, False]
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4, nan_ok=True)
    for ours, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_network_of_one_size_is_refused(tmp_path, cells, recipe):
    inputs = keras.Input((16, 16, 3))
    outputs = keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs, name="flat")
    with pytest.raises(ValueError, match="`progressive_resizing` needs a network that takes"):
        train(recipe, tmp_path, model=model, verbose=0, **cells)


def test_fractions_that_sum_to_more_than_one_are_refused():
    fractions = {"initial_scale": 0.5, "delay_fraction": 0.8, "finetune_fraction": 0.5}
    overrides = {f"progressive_resizing.{name}": value for name, value in fractions.items()}
    with pytest.raises(ValueError, match="must sum to 1 at most. Received: 0.8 and 0.5"):
        load_recipe("fast", overrides=overrides)
    load_recipe("fast", overrides=overrides | {"progressive_resizing.delay_fraction": 0.5})
