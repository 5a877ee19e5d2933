"""SPD-Conv and strides in a ResNet on CIFAR-10: the same recipe and epochs, and several seeds.

    python benchmarks/cifar10_downsampling.py train --data-dir DIR --images 8000 --epochs 3
    python benchmarks/cifar10_downsampling.py time

`train` trains ResNet18-SPD (or another `--network`), the strided network at the same resolutions
and the authors' twin (full resolution in its first stage), each in its own run folder, and writes a
table of test accuracies, all after the last epoch. Finished runs are skipped, and stopped ones are
resumed. `--recipe` names another recipe than `short`. `time` measures a training step and a
prediction of the three, interleaved, as ratios to SPD. Run nothing else at the same time.
"""

import argparse
import pathlib
import statistics
import time

from keras_spd import applications
from keras_spd.machine import computes_bfloat16
from keras_spd.surgery import count_multiply_adds
from keras_spd.training import load_recipe
from keras_spd.training.optimizer import make_optimizer
from train_once import train_once

import keras
import numpy as np

NETWORKS = {
    "spd": {},
    "strided": {"downsampling": "strided", "stem_stride": 2},
    "strided, full-resolution stem": {"downsampling": "strided"},
}


def run_training(arguments):
    results: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        for name in arguments.networks:
            words = [arguments.network, pathlib.Path(arguments.recipe).stem, name, str(seed)]
            folder = arguments.runs / "_".join(words).replace(", ", "_").replace(" ", "_")
            options = {"model.name": arguments.network, "model.options": NETWORKS[name]}
            overrides = {"seed": seed, **options}
            overrides["data.data_dir"] = str(arguments.data_dir)
            if arguments.epochs:
                overrides["epochs"] = arguments.epochs
            if arguments.images:
                overrides["data.train"] = f"train[:{arguments.images}]"
            recipe = load_recipe(arguments.recipe, dataset="cifar10", overrides=overrides)
            recipe = recipe.model_copy(update={"evaluate_every": recipe.epochs})
            accuracy = train_once(recipe, folder)["test_accuracy"]
            results.setdefault(name, []).append(accuracy)
            print(f"{name}, seed {seed}: {accuracy:.4f}", flush=True)
    print("\n| network | parameters | multiply-adds | seeds | test accuracy | spread |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, accuracies in results.items():
        model = build(arguments.network, name)
        spread = f"{statistics.stdev(accuracies):.2%}" if len(accuracies) > 1 else "-"
        print(
            f"| {name} | {model.count_params() / 1e6:.1f} M | "
            f"{count_multiply_adds(model) / 1e9:.3f} G | {len(accuracies)} | "
            f"{statistics.mean(accuracies):.2%} | {spread} |"
        )


def run_timing(arguments):
    precision = "mixed_bfloat16" if computes_bfloat16() else "float32"  # as "auto" is in a run
    recipe = load_recipe("short", dataset="cifar10", overrides={"precision": precision})
    keras.config.set_dtype_policy(recipe.precision)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(recipe.batch_size, 32, 32, 3)).astype("float32")
    labels = rng.integers(0, 10, recipe.batch_size)
    models = {name: build(arguments.network, name) for name in NETWORKS}
    calls = {}
    for name, model in models.items():
        model.compile(make_optimizer(recipe, 390), "sparse_categorical_crossentropy")
        calls[name, "training step"] = lambda model=model: model.train_on_batch(images, labels)
        calls[name, "prediction"] = lambda model=model: model.predict_on_batch(images)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(arguments.turns + 2):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:  # warm
                seconds[key].append(time.perf_counter() - start)
    print(f"batch {recipe.batch_size}, {recipe.precision}, {keras.backend.backend()}, medians")
    for (name, kind), values in seconds.items():
        ratios = [a / b for a, b in zip(values, seconds["spd", kind], strict=True)]
        print(
            f"{kind}, {name}: {statistics.median(values) * 1e3:.0f} ms, "
            f"{statistics.median(ratios):.2f} of SPD ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def build(network, name):
    constructor = applications.CLASSIFIERS[network]
    return constructor(classes=10, input_shape=(32, 32, 3), **NETWORKS[name])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--data-dir", type=pathlib.Path, required=True)
    training.add_argument("--runs", type=pathlib.Path, default="runs/cifar10_downsampling")
    training.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    training.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    training.add_argument("--recipe", default="short")
    training.add_argument("--epochs", type=int)
    training.add_argument("--images", type=int, help="only the first of the training images")
    training.set_defaults(run=run_training)
    timing = commands.add_parser("time")
    timing.add_argument("--turns", type=int, default=9)
    timing.set_defaults(run=run_timing)
    for command in (training, timing):
        command.add_argument("--network", choices=applications.CLASSIFIERS, default="resnet18_spd")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
