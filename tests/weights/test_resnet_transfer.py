"""Strided ResNets converted to ResNet-SPD: everything except the stem."""

import logging

import keras
import numpy as np
import pytest
import reference

from keras_spd.applications import ResNet18SPD, ResNet50SPD


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, shortcut",
    [
        (ResNet18SPD, "spd"),
        pytest.param(ResNet50SPD, "strided", marks=pytest.mark.slow),
    ],
)
def test_stages_compute_the_same(build, shortcut, rng, tmp_path, caplog, thin_networks):
    strided = build(classes=2, input_shape=(32, 32, 3), downsampling="strided", stem_stride=2)
    for variable in strided.variables:
        if "_bn" in variable.path:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    strided.save(tmp_path / "strided.keras")
    with caplog.at_level(logging.INFO, "keras_spd"):
        spd = build(
            include_top=False,
            input_shape=(32, 32, 3),
            weights=tmp_path / "strided.keras",
            shortcut=shortcut,
        )
    assert "all except stem, which is initialised" in caplog.text

    features = rng.normal(size=(2, 16, 16, 8)).astype("float32")
    stem, last = ("stem_relu", "stem_silu"), "stage4_block1_out"
    wanted, ours = (
        keras.Model(model.get_layer(name).output, model.get_layer(last).output)(features)
        for model, name in zip((strided, spd), stem, strict=True)
    )
    assert reference.relative_norm(np.array(ours) - np.array(wanted), np.array(wanted)) <= 1e-5
