"""Measures the memory of YOLOV5Loss and its gradient in XLA, by assignment, image size and boxes.

KERAS_BACKEND=jax python benchmarks/loss_memory.py
"""

import itertools

from keras_spd.detection import YOLOV5Loss
from keras_spd.detection.anchors import level_stride
from keras_spd.detection.losses import ASSIGNMENTS

import jax
import keras
import numpy as np

IMAGES, CLASSES = 16, 80


def plan(assignment, side, boxes):
    """Returns the bytes of temporary memory, without predictions, ground truth and gradient."""
    rng = np.random.default_rng(0)
    raw = {
        level: np.zeros((IMAGES, *2 * (side // level_stride(level),), 3, 5 + CLASSES), "float32")
        for level in ("P3", "P4", "P5")
    }
    corners = rng.uniform(0, side / 2, (IMAGES, boxes, 2))
    truth = {
        "boxes": np.concatenate([corners, corners + 20], axis=-1).astype("float32"),
        "classes": rng.integers(0, CLASSES, (IMAGES, boxes)),
    }
    loss = YOLOV5Loss(CLASSES, assignment=assignment)
    step = jax.jit(jax.value_and_grad(lambda raw: loss(truth, raw)))
    return step.lower(raw).compile().memory_analysis().temp_size_in_bytes


def main():
    if keras.backend.backend() != "jax":
        raise SystemExit("Set KERAS_BACKEND=jax: XLA's plan is read through JAX.")
    print(f"{IMAGES} images, {CLASSES} classes; temporary memory in MiB")
    for assignment, side in itertools.product(ASSIGNMENTS, (320, 640)):
        sizes = ((n, plan(assignment, side, n) / 2**20) for n in (10, 100, 1000))
        print(f"{assignment}, {side} px:", ", ".join(f"{n} boxes: {size:.0f}" for n, size in sizes))


if __name__ == "__main__":
    main()
