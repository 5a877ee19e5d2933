"""Times the training of ResNet18-SPD on CIFAR-10: fast layers or Keras', real data or one batch.

python benchmarks/training_time.py --data-dir DIR
"""

import argparse
import statistics
import time

import keras_spd
from keras_spd import fast_layers
from keras_spd.applications import ResNet18SPD, blocks
from keras_spd.training import load_recipe
from keras_spd.training.optimizer import make_optimizer

import keras
import numpy as np

BATCH_SIZE = 128
STEPS = 5  # training steps in one turn


def build(precision, layers):
    keras.config.set_dtype_policy(precision)
    blocks.BatchNormalization, blocks.Conv2D = layers.BatchNormalization, layers.Conv2D
    model = ResNet18SPD(weights=None, classes=10, input_shape=(32, 32, 3))
    keras.config.set_dtype_policy("float32")
    optimizer = make_optimizer(load_recipe("short"), 390)
    model.compile(optimizer, keras.losses.CategoricalCrossentropy())
    return model


def training(model, batches):
    """Returns a function that trains for some steps and returns the seconds of one."""
    stream = iter(batches)

    def run():
        start = time.perf_counter()
        for _ in range(STEPS):
            model.train_on_batch(*next(stream))
        return (time.perf_counter() - start) / STEPS

    return run


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder with CIFAR-10 as a TFDS dataset")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--precisions", nargs="*", default=["float32", "mixed_bfloat16"])
    arguments = parser.parse_args()

    images = np.random.default_rng(0).normal(0, 1, (BATCH_SIZE, 32, 32, 3)).astype("float32")
    labels = np.eye(10, dtype="float32")[np.arange(BATCH_SIZE) % 10]

    def kept():
        while True:
            yield images, labels

    runs = {}
    for precision in arguments.precisions:
        fast = build(precision, fast_layers)
        runs[precision, "one kept batch"] = training(fast, kept())
        plain = build(precision, keras.layers)
        runs[precision, "one kept batch, Keras' layers"] = training(plain, kept())
        if arguments.data_dir:
            train = keras_spd.data.from_tfds("cifar10", "train", data_dir=arguments.data_dir)
            for name in ("short", "modern"):
                augmentation = load_recipe(name).augmentation
                batches = train.batches(
                    BATCH_SIZE, shuffle=True, augmentation=augmentation, epochs=9, soft_labels=True
                )
                runs[precision, f"CIFAR-10, recipe {name}"] = training(fast, batches)

    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for turn in range(arguments.turns + 1):
        for key, run in runs.items():
            value = run()
            if turn:  # the first turn compiles
                seconds[key].append(value)
    print(f"batch {BATCH_SIZE}, {keras.backend.backend()}, medians of {arguments.turns} turns")
    for (precision, what), values in seconds.items():
        base = seconds[precision, "one kept batch"]
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        print(
            f"{precision}, {what}: {BATCH_SIZE / statistics.median(values):.0f} images/s, "
            f"{statistics.median(ratios):.2f} of the time with one kept batch "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
