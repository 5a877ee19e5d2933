"""Computes layers, a ResNet, an augmentation and optimizer steps on the backend in KERAS_BACKEND.

    KERAS_BACKEND=jax python tests/backend_outputs.py OUTPUTS.npz

Run by `test_backends.py`, which compares the outputs of the backends.
"""

import sys

import keras
import numpy as np

import keras_spd
from keras_spd.layers import SpaceToDepth, SPDConv


def numpy_weights(model):
    """Sets weights that do not depend on the backend; batch-norm statistics not trivial."""
    rng = np.random.default_rng(0)
    weights = []
    for variable in model.weights:
        if "variance" in variable.path or "gamma" in variable.path:
            weights.append(rng.uniform(0.5, 1.5, variable.shape))
        else:
            weights.append(rng.normal(0, 0.1, variable.shape))
    model.set_weights(weights)
    return model


def main(path):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2, 16, 18, 3)).astype("float32")
    odd = rng.normal(size=(2, 7, 9, 4)).astype("float32")
    outputs = {"space_to_depth": SpaceToDepth(3)(odd)}
    first = SpaceToDepth(2, data_format="channels_first")(odd.transpose(0, 3, 1, 2))
    outputs["channels_first"] = first
    layer = SPDConv(6, 3, 2, groups=2, padding="same")
    layer.build(odd.shape)
    outputs["spd_conv"] = numpy_weights(layer)(odd)

    inputs = keras.Input((None, None, 3))
    dynamic = keras.Model(inputs, SpaceToDepth(2)(inputs))
    outputs["unknown_sides"] = dynamic.predict(images[:, :7, :9], verbose=0)

    model = numpy_weights(keras_spd.applications.ResNet18SPD(classes=3, shortcut="spd"))
    outputs["resnet"] = model.predict(images, verbose=0)
    features = keras.Model(model.input, model.get_layer("stage4_block2_out").output)
    outputs["features"] = features.predict(images, verbose=0)

    labels = rng.integers(0, 3, 20)
    pixels = rng.integers(0, 256, (20, 8, 8, 3)).astype("uint8")
    train = keras_spd.data.from_arrays(pixels, labels)
    augmentation = keras_spd.data.Augmentation(crop_padding=1, horizontal_flip=True)
    preprocess = keras_spd.applications.preprocess_input
    batches = train.batches(8, preprocess=preprocess, shuffle=True, augmentation=augmentation)
    small = keras_spd.applications.ResNet18SPD(classes=3, input_shape=(8, 8, 3))
    small.compile("sgd", "sparse_categorical_crossentropy")
    history = small.fit(batches, epochs=1, verbose=0)
    outputs["finite_loss"] = np.isfinite(history.history["loss"])

    np.savez(path, **{name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()})
    print("tensorflow" in sys.modules)


if __name__ == "__main__":
    main(sys.argv[1])
