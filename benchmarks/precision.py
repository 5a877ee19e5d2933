"""Times training steps in float32 and bfloat16, interleaved, of a classifier and a detector.

python benchmarks/precision.py
"""

import statistics
import time

from keras_spd.applications import YOLOV5SPD, ResNet18SPD

import keras
import numpy as np

PRECISIONS = ("float32", "mixed_bfloat16")


def classifier(rng):
    model = ResNet18SPD(weights=None, input_shape=(32, 32, 3), classes=10)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    batch = rng.random((64, 32, 32, 3), dtype="float32"), rng.integers(0, 10, 64)
    return lambda: model.train_on_batch(*batch)


def detector(rng):
    model = YOLOV5SPD("n", classes=6)
    model.compile()
    images = rng.uniform(0, 255, (8, 320, 320, 3)).astype("float32")
    corners = rng.uniform(0, 270, (8, 10, 2))
    boxes = np.concatenate([corners, corners + 20], axis=-1).astype("float32")
    truth = {"boxes": boxes, "classes": rng.integers(0, 6, (8, 10))}
    return lambda: model.train_on_batch(images, truth)


def main():
    for build in (classifier, detector):
        steps = {}
        for precision in PRECISIONS:
            keras.mixed_precision.set_dtype_policy(precision)
            steps[precision] = build(np.random.default_rng(0))
        seconds = {precision: [] for precision in PRECISIONS}
        for turn in range(6):
            for precision, step in steps.items():
                begun = time.perf_counter()
                step()
                if turn > 1:  # warm
                    seconds[precision].append(time.perf_counter() - begun)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        ratio = medians["mixed_bfloat16"] / medians["float32"]
        print(f"{build.__name__}: float32 {medians['float32']:.2f} s, bfloat16 {ratio:.2f} of it")


if __name__ == "__main__":
    main()
