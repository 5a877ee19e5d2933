"""A short training run in its own process, for tests of several devices, workers and kills.

python run_training.py {classifier|detector} RUN_FOLDER [--data labels.json] [--devices all]
    [--cpus 2] [--resume] [--set FIELD=VALUE ...]
"""

import argparse
import json
import os
import pathlib
import sys

parser = argparse.ArgumentParser()
parser.add_argument("task", choices=("classifier", "detector"))
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--data", help="detector: COCO annotations")
parser.add_argument("--devices")
parser.add_argument("--cpus", type=int, default=1)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--set", nargs="*", default=[])
arguments = parser.parse_args()

# As many devices as asked for, before Keras looks for them.
flags = f"--xla_force_host_platform_device_count={arguments.cpus}"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"

if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
    import tensorflow as tf

    [cpu] = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * arguments.cpus
    tf.config.set_logical_device_configuration(cpu, logical)

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from keras_spd import data, training  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from thin import make_thin  # noqa: E402

make_thin(pytest.MonkeyPatch())

settings = {"epochs": 3, "batch_size": 8, "optimizer.learning_rate": 0.002}
if arguments.task == "classifier":
    recipe = "demo"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 42)
    images = rng.uniform(0, 120, (42, 16, 16, 3)) + 60 * labels[:, None, None, None]
    sets = [data.from_arrays(images[part], labels[part]) for part in (slice(32), slice(32, 41))]
else:
    recipe = "short_detection"
    sets = [data.load_detection(arguments.data)] * 2
    settings |= {"data.image_size": [64, 64], "precision": "float32", "evaluate_every": 1}
for assignment in arguments.set:
    field, _, value = assignment.partition("=")
    settings[field] = json.loads(value)
recipe = training.load_recipe(recipe, overrides=settings)
training.train(
    recipe,
    arguments.folder,
    train_data=sets[0],
    test_data=sets[1],
    devices=arguments.devices,
    resume=arguments.resume,
    verbose=0,
)
print("done")
