"""Measures training steps on a GPU or CPU: images per second and memory by batch size.

    KERAS_BACKEND=jax python benchmarks/device_training.py \\
        --networks resnet50_spd:32 yolov5_spd_s:640 --batch-sizes 32 64 128 256
    KERAS_BACKEND=torch python benchmarks/device_training.py --networks yolov5_spd_s:640 \\
        --batch-sizes 64 --beside my_module:make_step

A network is a constructor in `keras_spd.applications` in snake case, and the side of its images.
Every step trains on the same batch in host memory, so reading and augmenting images is not
included; `input_pipeline.py` measures that. Peak memory is that of the process so far, including
earlier rows and the other program: to compare memory, start the script once for each row.
`--beside` names a function to compare with. It is
called as `f(network, side, batch_size)` and returns a training step of another program, such as the
authors' network with `torch.compile`: a function without arguments that waits for the device.
"""

import argparse
import importlib
import resource
import statistics
import time

import keras_spd

import keras
import numpy as np

WARM_UP = 3  # steps, of which the first one compiles


def make_step(network, side, batch_size, precision):
    """Returns a function that trains a network for one step."""
    keras.config.set_dtype_policy(precision)
    constructor, _, size = network.partition("_spd")
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (batch_size, side, side, 3)).astype("float32")
    if constructor == "yolov5":
        model = keras_spd.applications.YOLOV5SPD(size.strip("_"), classes=80)
        model.compile()
        corners = rng.uniform(0, side * 0.8, (batch_size, 8, 2))
        boxes = np.concatenate([corners, corners + side * 0.1], axis=-1).astype("float32")
        truth = {"boxes": boxes, "classes": rng.integers(0, 80, (batch_size, 8))}
    else:
        names = {name.lower(): name for name in dir(keras_spd.applications)}
        build = getattr(keras_spd.applications, names[network.replace("_", "")])
        model = build(weights=None, classes=10, input_shape=(side, side, 3))
        model.compile(keras.optimizers.SGD(0.01, 0.9), "sparse_categorical_crossentropy")
        images, truth = images / 127.5 - 1, rng.integers(0, 10, batch_size)
    keras.config.set_dtype_policy("float32")
    return lambda: model.train_on_batch(images, truth)


def peak_bytes():
    """Returns the peak memory of the device; of this process if the device is the CPU."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        stats = jax.devices()[0].memory_stats()
        if stats:
            return stats["peak_bytes_in_use"]
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(steps, number):
    """Returns the seconds of each of several steps, which take turns."""
    seconds = {name: [] for name in steps}
    for turn in range(WARM_UP + number):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if turn >= WARM_UP:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=["resnet50_spd:32", "yolov5_spd_s:640"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--beside", help="MODULE:FUNCTION of another program's step")
    arguments = parser.parse_args(arguments)
    print(f"{keras.backend.backend()}, {arguments.precision}, medians of {arguments.steps} steps")
    print("| network | batch | images/s | peak memory | beside, images/s |\n" + "| --- " * 5 + "|")
    for name in arguments.networks:
        network, _, side = name.partition(":")
        if not side.isdecimal():
            parser.error(f"--networks takes NAME:SIDE, such as resnet50_spd:32. Received: {name}")
        for batch_size in arguments.batch_sizes:
            steps = {"ours": make_step(network, int(side), batch_size, arguments.precision)}
            if arguments.beside:
                module, _, function = arguments.beside.partition(":")
                make = getattr(importlib.import_module(module), function)
                steps["beside"] = make(network, int(side), batch_size)
            seconds = measure(steps, arguments.steps)
            speeds = {key: batch_size / statistics.median(one) for key, one in seconds.items()}
            beside = f"{speeds['beside']:.0f}" if "beside" in speeds else ""
            memory = f"{peak_bytes() / 2**30:.2f} GiB"
            print(f"| {name} | {batch_size} | {speeds['ours']:.1f} | {memory} | {beside} |")


if __name__ == "__main__":
    main()
