"""Uses SPDConv in your own network, instead of a strided Conv2D, and compares the two.

    python examples/own_network.py

Trains two small networks on the 32x32 blood cells in the package and prints their test
accuracies: one downsamples with strided convolutions, the other with SPD-Conv. The cells are easy
to tell apart, so expect both to do well; `benchmarks/cifar10_downsampling.py` is a real comparison.
"""

import argparse

import keras_spd
from keras_spd.applications import preprocess_input
from keras_spd.layers import SPDConv
from keras_spd.surgery import count_multiply_adds

import keras


def strided(x, filters):
    return keras.layers.Conv2D(filters, 3, strides=2, padding="same")(x)


def spd(x, filters):
    return SPDConv(filters, 3, scale=2, padding="same")(x)


def build(downsample, classes):
    inputs = x = keras.Input((32, 32, 3))
    for filters in (32, 64, 128):
        x = downsample(x, filters)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one epoch, for tests")
    epochs = 1 if parser.parse_args().smoke else 20

    train, test = (keras_spd.data.load_blood_cells(split) for split in ("train", "test"))
    augmentation = keras_spd.data.Augmentation(crop_padding=2, horizontal_flip=True)
    for downsample in (strided, spd):
        keras.utils.set_random_seed(0)
        model = build(downsample, len(train.class_names))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        batches = train.batches(
            32, preprocess=preprocess_input, shuffle=True, augmentation=augmentation
        )
        model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
        _, accuracy = model.evaluate(test.batches(128, preprocess=preprocess_input), verbose=0)
        print(
            f"{downsample.__name__}: test accuracy {accuracy:.4f}, "
            f"{model.count_params():,} parameters, {count_multiply_adds(model):,} multiply-adds"
        )


if __name__ == "__main__":
    main()
