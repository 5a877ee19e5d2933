"""Compares YOLOv5-SPD with its strided twin: size, arithmetic, and time, interleaved in one run.

python benchmarks/detector_time.py --size n --image-size 320
"""

import argparse
import statistics
import time

from keras_spd.applications import YOLOV5SPD
from keras_spd.surgery import count_multiply_adds

import keras
import numpy as np

KINDS = ("spd", "strided")


def build(arguments, kind, precision):
    keras.config.set_dtype_policy(precision)
    side = arguments.image_size
    shape = (side, side, 3)
    model = YOLOV5SPD(arguments.size, classes=6, downsampling=kind, input_shape=shape)
    model.compile()
    return model


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="n")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    side, batch_size = arguments.image_size, arguments.batch_size
    images = rng.uniform(0, 255, (batch_size, side, side, 3)).astype("float32")
    corners = rng.uniform(0, side - 40, (batch_size, 10, 2))
    truth = {
        "boxes": np.concatenate([corners, corners + 20], axis=-1).astype("float32"),
        "classes": rng.integers(0, 6, (batch_size, 10)),
    }
    trained = {kind: build(arguments, kind, "mixed_bfloat16") for kind in KINDS}
    models = {kind: build(arguments, kind, "float32") for kind in KINDS}
    calls = {}
    for kind in KINDS:
        multiply_adds = count_multiply_adds(models[kind].network)
        print(
            f"{kind}: {models[kind].count_params() / 1e6:.2f} M parameters, "
            f"{multiply_adds / 1e9:.3f} G multiply-adds"
        )
        calls["training step, bfloat16", kind] = lambda m=trained[kind]: m.train_on_batch(
            images, truth
        )
        calls["prediction with boxes, one image, float32", kind] = lambda m=models[kind]: (
            m.predict_on_batch(images[:1])
        )

    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for turn in range(arguments.turns + 2):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:  # warm
                seconds[key].append(time.perf_counter() - start)
    print(f"batch {batch_size}, {side} px, {keras.backend.backend()}, medians")
    for (what, kind), values in seconds.items():
        ratios = [a / b for a, b in zip(values, seconds[what, "spd"], strict=True)]
        print(
            f"{what}, {kind}: {statistics.median(values) * 1e3:.0f} ms, "
            f"{statistics.median(ratios):.2f} of SPD ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
