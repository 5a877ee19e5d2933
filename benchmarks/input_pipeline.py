"""Measures the input pipeline of detectors, by stage, and other loaders, in images per second.

python benchmarks/input_pipeline.py --data instances_train.json --image-size 640
python benchmarks/input_pipeline.py --generate 256 --generated-size 480 640 --workers 1 2 4
python benchmarks/input_pipeline.py --data instances_train.json --loader my_module:make_batches
python benchmarks/input_pipeline.py --generate 24 --generated-size 2000 3000 --tile 640 --cache DIR

`--loader` names a function that is called as `f(data, image_size, batch_size, workers)` and returns
an iterable of batches, tuples whose first entry has one row for each image.

Images per CPU second are images divided by the CPU time of this process and of its children that
have ended, so other programs on the machine hardly affect them. A loader must end its processes
with its last batch. The lower limit is libjpeg-turbo (in Pillow) decoding
each image once into its own buffer.
"""

import argparse
import importlib
import io
import os
import pathlib
import resource
import tempfile
import time

from keras_spd.data import DetectionAugmentation, DetectionBatches, DetectionData, load_detection
from keras_spd.data.detection.boxed_image import BoxedImage

import numpy as np
from PIL import Image

AUGMENTATION = {
    "mosaic": 1.0,
    "scale": 0.5,
    "translate": 0.1,
    "horizontal_flip": 0.5,
    "hue": 0.015,
    "saturation": 0.7,
    "value": 0.4,
}


def generate(folder, count, size_hw, quality):
    """Returns images with detail at every scale, like photographs, as JPEG files with 8 boxes."""
    height, width = size_hw
    images = []
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = np.zeros((height, width, 3))
        side = 4
        while side < max(size_hw):
            noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), "uint8"))
            pixels += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / side
            side *= 2
        pixels = (255 * (pixels - pixels.min()) / np.ptp(pixels)).astype("uint8")
        path = pathlib.Path(folder, f"{number}.jpg")
        Image.fromarray(pixels).save(path, quality=quality)
        corners = rng.uniform(0, 0.8, (8, 2)) * (width, height)
        boxes = np.concatenate([corners, corners + 0.1 * min(size_hw)], axis=1).astype("float32")
        images.append(
            BoxedImage(number, path.name, path, size_hw, boxes, np.zeros(8, int), np.zeros(8, bool))
        )
    return DetectionData(tuple(images), ("object",), (1,))


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(times.ru_utime + times.ru_stime for times in used)


def measure(name, run):
    """Prints the images per CPU-second and per second of a function that returns a number."""
    cpu, wall = cpu_seconds(), time.perf_counter()
    count = run()
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:<44}{count / cpu:8.0f} images/CPU-s {1000 * cpu / count:7.2f} ms CPU/image "
        f"{count / wall:8.0f} images/s {peak:7.0f} MiB peak",
        flush=True,
    )


def stages(data, size, batch_size):
    """Measures the parts of the work on one thread."""
    wholes = list(dict.fromkeys(image.whole for image in data.images))[:256]
    known = set(wholes)
    count = sum(image.whole in known for image in data.images)  # tiles: several per file
    encoded = [
        pathlib.Path(image.source).read_bytes() if not callable(image.source) else image.encoded()
        for image in wholes
    ]

    def floor():
        for content in encoded:
            Image.open(io.BytesIO(content)).load()
        return count

    def decode():
        for image in data.images[:256]:
            image.read()
        return min(len(data.images), 256)

    kept = [(image.read(), image.boxes, image.classes) for image in data.images[:64]]

    def augment(**fields):
        augmentation = DetectionAugmentation(**fields)

        def run():
            for index in range(len(kept)):
                rng = np.random.default_rng(index)
                augmentation.apply(index, kept.__getitem__, np.arange(len(kept)), size, rng)
            return len(kept)

        return run

    geometry = {name: AUGMENTATION[name] for name in ("mosaic", "scale", "translate")}
    samples = [np.zeros((*size, 3), "uint8") for _ in range(batch_size)]

    def stack():
        for _ in range(8):
            np.stack(samples)
        return 8 * batch_size

    measure("floor: libjpeg-turbo alone", floor)
    measure("decode: `BoxedImage.read`", decode)
    measure("resize: mosaic, zoom, shift; in memory", augment(**geometry))
    measure("augment: the same, flips and HSV", augment(**AUGMENTATION))
    measure("batch: copying samples into one array", stack)


def epoch(batches, most):
    """Returns a function that iterates over batches, and returns the number of images."""

    def run():
        count = 0
        for batch in batches:
            count += len(batch[0])
            if count >= most:
                break
        return count

    return run


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a detection dataset, as `load_detection` reads it")
    parser.add_argument("--generate", type=int, default=256, help="images, if there is no --data")
    parser.add_argument("--generated-size", type=int, nargs=2, default=(480, 640))
    parser.add_argument("--quality", type=int, default=90, help="of generated JPEG files")
    parser.add_argument("--image-size", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--images", type=int, default=1000, help="most images of an epoch")
    parser.add_argument("--tile", type=int, help="side of the tiles that images are cut into")
    parser.add_argument("--cache", help="a folder: measure `DetectionData.cache` as well")
    parser.add_argument("--loader", help="module:function, another loader to measure beside ours")
    parser.add_argument("--only", choices=("stages", "ours", "loader"))
    arguments = parser.parse_args()

    size = (arguments.image_size, arguments.image_size)
    augmentation = DetectionAugmentation(**AUGMENTATION)
    batch_size = arguments.batch_size
    with tempfile.TemporaryDirectory() as folder:
        if arguments.data:
            data = load_detection(arguments.data)
        else:
            data = generate(
                folder, arguments.generate, tuple(arguments.generated_size), arguments.quality
            )
        if arguments.tile:
            data = data.tiles(arguments.tile)
        print(
            f"{data.num_images} images, first {data.images[0].size_hw}, to {size[0]} px, batches "
            f"of {batch_size}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}"
        )
        if arguments.only in (None, "stages"):
            stages(data, size, batch_size)
        for workers in arguments.workers:
            options = {"shuffle": True, "augmentation": augmentation, "workers": workers}
            if arguments.only in (None, "ours"):
                made = DetectionBatches(data, batch_size, size, **options)
                measure(
                    f"batches, {workers} workers, one cold epoch",
                    epoch(map(made.__getitem__, range(len(made))), arguments.images),
                )
                measure(
                    "hand-over: the same through `batches()`",
                    epoch(data.batches(batch_size, size, **options), arguments.images),
                )
                if arguments.cache:
                    kept = data.cache(arguments.cache)
                    for image in {image.whole for image in kept.images}:
                        image.read()
                    made = DetectionBatches(kept, batch_size, size, **options)
                    measure(
                        f"batches, {workers} workers, decoded on disk",
                        epoch(map(made.__getitem__, range(len(made))), arguments.images),
                    )
            if arguments.loader and arguments.only in (None, "loader"):
                module, name = arguments.loader.split(":")
                function = getattr(importlib.import_module(module), name)
                measure(
                    f"{arguments.loader}, {workers} workers",
                    epoch(function(data, size, batch_size, workers), arguments.images),
                )


if __name__ == "__main__":
    main()
