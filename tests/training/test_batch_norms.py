"""Statistics of batch norms from training images."""

import keras
import numpy as np

from keras_spd.fast_layers import BatchNormalization
from keras_spd.training.batch_norms import copy_batch_norms, estimate_batch_norms, freeze_alike


def network():
    inputs = keras.Input((4, 4, 3))
    x = BatchNormalization(name="trained")(inputs)
    x = keras.layers.BatchNormalization(name="frozen", trainable=False)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def test_statistics_of_several_batches(rng):
    batches = [(rng.normal(k, 2, (8, 4, 4, 3)).astype("float32"), None) for k in range(5)]
    model, other = network(), network()
    estimate_batch_norms(model, batches, 3)
    norm, frozen = model.get_layer("trained"), model.get_layer("frozen")
    images = np.stack([images for images, _ in batches[:3]])
    np.testing.assert_allclose(norm.moving_mean, images.mean(axis=(0, 1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, images.var(axis=(0, 1, 2, 3)), rtol=1e-4)
    assert norm.momentum == 0.99
    np.testing.assert_array_equal(frozen.moving_mean, 0)
    other.get_layer("frozen").trainable = True
    freeze_alike(model, other)
    assert [other.get_layer(name).trainable for name in ("trained", "frozen")] == [True, False]
    copy_batch_norms(model, other)
    for ours, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
