"""Freezing layers for the first epochs."""

import numpy as np
import pytest
from tiny import tiny_classifier

from keras_spd import data
from keras_spd.applications import YOLOV5SPD
from keras_spd.training import load_recipe, train
from keras_spd.training.freezing import freeze, warn_of_initial_weights
from keras_spd.training.run_folder import RunFolder

OVERRIDES = {"batch_size": 16, "optimizer.learning_rate": 0.005, "optimizer.average": 0.5}


@pytest.fixture
def cells():
    images, labels = data.load_blood_cells("train").batches(64)[0]
    images = images[:, ::2, ::2]
    parts = slice(32), slice(32, 48)
    train_data, test_data = (data.from_arrays(images[part], labels[part]) for part in parts)
    return {"train_data": train_data, "test_data": test_data, "verbose": 0}


def recipe_of(num_epochs, **freezing):
    freezing = {f"freeze.{field}": value for field, value in freezing.items()}
    return load_recipe("demo", overrides={**OVERRIDES, "epochs": num_epochs, **freezing})


@pytest.mark.slow
def test_frozen_layers_keep_weights_and_statistics(tmp_path, cells):
    start = tiny_classifier()
    model = train(recipe_of(1, layers=["stem", "bn"]), tmp_path, model=start, **cells)
    for ours, before in zip(model.variables, start.variables, strict=True):
        same = np.array_equal(ours, before)
        assert same == ours.path.startswith(("stem", "bn")), ours.path
    assert model.get_layer("bn").trainable


@pytest.mark.slow
def test_a_run_resumes_across_the_unfreezing_as_if_unbroken(tmp_path, cells, interrupt_after):
    recipe, start = recipe_of(4, layers=["backbone"], epochs=2), tiny_classifier()
    unbroken = train(recipe, tmp_path / "unbroken", model=start, **cells)
    moved = [
        not np.array_equal(*pair) for pair in zip(unbroken.variables, start.variables, strict=True)
    ]
    assert all(moved)
    interrupt_after(1, 2, 3)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "stopped", model=start, **cells, resume=True)
    resumed = train(None, tmp_path / "stopped", **cells, resume=True)
    rows, expected = (RunFolder(tmp_path / name).read_log() for name in ("stopped", "unbroken"))
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    for ours, theirs in zip(resumed.get_weights(), unbroken.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_backbone_of_a_detector(thin_networks):
    model = YOLOV5SPD("n", classes=2)
    freeze(model, ["backbone"])
    left = {variable.path.split("_")[0] for variable in model.trainable_variables}
    assert left == {"lateral", "top", "bottom", "head"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "names, message",
    [
        (["stagee2"], "Received: 'stagee2'. Did you mean 'stage2'.*There are: stem, stage2"),
        (["backbone", "lateral", "top", "bottom", "head"], "leaves nothing of .* to train"),
    ],
)
def test_what_cannot_be_frozen(names, message, thin_networks):
    with pytest.raises(ValueError, match=message):
        freeze(YOLOV5SPD("n", classes=2), names)


def test_frozen_random_weights_are_warned_of(caplog):
    start = tiny_classifier()
    frozen = freeze(start, ["stem"])
    warn_of_initial_weights(start, frozen, from_weights=True)
    warn_of_initial_weights(start, [], from_weights=False)
    assert not caplog.text
    warn_of_initial_weights(start, frozen, from_weights=False)
    assert "freezes layers with random weights" in caplog.text
    start.initialised_parts = ("stem_conv",)
    frozen[0].name = "stem_conv_conv"
    warn_of_initial_weights(start, frozen, from_weights=True)
    assert "`freeze.layers` freezes stem_conv, initialised" in caplog.text
