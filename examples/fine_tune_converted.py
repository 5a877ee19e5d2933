"""Does SPD-Conv help a trained network? Fine-tunes one network with and without it.

    python examples/fine_tune_converted.py                       # the shipped blood cells
    python examples/fine_tune_converted.py --dataset cifar10 --images 20000 --epochs 4 --tune 3

Trains a strided ResNet18, then fine-tunes it in three versions, for the same number of epochs and
with the same batches: unchanged; converted with `to_spd`; and with only its first strided layer
converted. Prints the test accuracy of each before and after.
"""

import argparse

import keras_spd
from keras_spd.applications import ResNet18SPD, preprocess_input
from keras_spd.surgery import count_multiply_adds

import keras


def load(name, images, data_dir):
    if name == "blood_cells":
        return [keras_spd.data.load_blood_cells(split) for split in ("train", "test")]
    part = f"train[:{images}]" if images else "train"
    return [keras_spd.data.from_tfds(name, split, data_dir=data_dir) for split in (part, "test")]


def batches(data, epochs=None):
    augmentation = keras_spd.data.Augmentation(crop_padding=2, horizontal_flip=True)
    if epochs is None:
        return data.batches(256, preprocess=preprocess_input)
    return data.batches(
        128, preprocess=preprocess_input, shuffle=True, augmentation=augmentation, epochs=epochs
    )


def fit(model, train, epochs, rate):
    keras.utils.set_random_seed(0)
    steps = epochs * train.steps_per_epoch(128)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        batches(train, epochs),
        epochs=epochs,
        steps_per_epoch=train.steps_per_epoch(128),
        shuffle=False,
        verbose=0,
    )


def accuracy(model, test):
    if not model.compiled:
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.evaluate(batches(test), verbose=0, return_dict=True)["accuracy"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="blood_cells", help="or a name of TFDS")
    parser.add_argument("--data-dir", help="folder with prepared TFDS datasets")
    parser.add_argument("--images", type=int, help="how many training images to take")
    parser.add_argument("--epochs", type=int, default=10, help="of the strided network")
    parser.add_argument("--tune", type=int, default=5, help="epochs of fine-tuning")
    parser.add_argument("--smoke", action="store_true", help="one epoch, for tests")
    options = parser.parse_args()
    if options.images and options.dataset == "blood_cells":
        parser.error("--images is for a dataset of TFDS: pass --dataset as well")
    epochs, tune = (1, 1) if options.smoke else (options.epochs, options.tune)

    train, test = load(options.dataset, options.images, options.data_dir)
    keras.utils.set_random_seed(0)
    strided = ResNet18SPD(
        classes=len(train.class_names),
        input_shape=(32, 32, 3),
        downsampling="strided",
        stem_stride=2,
    )
    fit(strided, train, epochs, 0.05)
    print(f"strided, {epochs} epochs: test accuracy {accuracy(strided, test):.4f}")
    for name, model in (
        ("strided", keras.models.clone_model(strided)),
        ("to_spd", keras_spd.to_spd(strided)),
        ("to_spd, first layer", keras_spd.to_spd(strided, first_n=1)),
    ):
        if name == "strided":
            model.set_weights(strided.get_weights())
        before = accuracy(model, test)
        fit(model, train, tune, 0.01)
        print(
            f"{name}: test accuracy {before:.4f}, after {tune} more epochs "
            f"{accuracy(model, test):.4f} ({model.count_params() / 1e6:.1f} M parameters, "
            f"{count_multiply_adds(model) / 1e9:.3f} G multiply-adds)"
        )


if __name__ == "__main__":
    main()
