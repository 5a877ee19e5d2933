"""A short training run, here or in its own process, for tests of devices, workers and kills.

python run_training.py {classifier|detector} RUN_FOLDER [--data labels.json] [--devices all]
    [--cpus 2] [--model FILE] [--resume] [--set FIELD=VALUE ...]

Networks are small. Keras and TensorFlow are imported after the number of devices is set.
"""

import argparse
import json
import os
import pathlib


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=("classifier", "detector"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--data", help="detector: COCO annotations")
    parser.add_argument("--devices")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--model", help="classifier: a file, for several workers")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--one-device", type=pathlib.Path, help="folder of the same run on one")
    parser.add_argument("--set", nargs="*", default=[])
    return parser.parse_args()


def set_devices(cpus):
    """Divides the CPU into as many devices, before Keras looks for them."""
    flags = f"--xla_force_host_platform_device_count={cpus}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        import tensorflow as tf

        [cpu] = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * cpus
        tf.config.set_logical_device_configuration(cpu, logical)
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def run(task, folder, *, data=None, settings=(), devices=None, model=None, resume=False):
    """Trains; `settings` are as behind `--set`. A detector's network needs `thin_networks`."""
    import keras
    import numpy as np
    from tiny import tiny_classifier

    from keras_spd import training
    from keras_spd.data import from_arrays, load_detection

    fields = {"epochs": 3, "batch_size": 8, "optimizer.learning_rate": 0.002}
    if task == "classifier":
        recipe = "demo"
        if model is None:  # several workers must not compute anything before they meet
            keras.utils.set_random_seed(0)  # of the weights that the model starts with
            model = tiny_classifier()
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 42)
        images = rng.uniform(0, 120, (42, 16, 16, 3)) + 60 * labels[:, None, None, None]
        sets = [from_arrays(images[part], labels[part]) for part in (slice(32), slice(32, 41))]
    else:
        recipe = "short_detection"
        sets = [load_detection(data)] * 2
        fields |= {"data.image_size": [64, 64], "precision": "float32", "evaluate_every": 1}
        fields |= {"model.options": {"levels": ["P3"]}}
    for assignment in settings:
        field, _, value = assignment.partition("=")
        fields[field] = json.loads(value)
    training.train(
        training.load_recipe(recipe, overrides=fields),
        folder,
        model=model,
        train_data=sets[0],
        test_data=sets[1],
        devices=devices,
        resume=resume,
        verbose=0,
    )


def without_pictures_and_graphs():
    """As in the tests' own process; the step that is trained keeps its graph."""
    import keras
    from conftest import _eager_unless_graphs

    from keras_spd.training import callbacks, fit

    for module in (callbacks, fit):
        module.draw_learning_curves = lambda *arguments, **options: None
    fit.draw_training_images = lambda *arguments, **options: None
    if keras.backend.backend() == "tensorflow":
        for kind in ("test", "predict"):
            name = f"make_{kind}_function"
            setattr(keras.Model, name, _eager_unless_graphs(getattr(keras.Model, name)))


def main():
    arguments = parse()
    set_devices(arguments.cpus)
    import pytest
    from thin import make_thin

    make_thin(pytest.MonkeyPatch())
    without_pictures_and_graphs()
    runs = [(arguments.folder, arguments.devices)]
    if arguments.one_device is not None:
        runs.insert(0, (arguments.one_device, None))
    for folder, devices in runs:
        run(
            arguments.task,
            folder,
            data=arguments.data,
            settings=arguments.set,
            devices=devices,
            model=arguments.model,
            resume=arguments.resume,
        )
    print("done")


if __name__ == "__main__":
    main()
