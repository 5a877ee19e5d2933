"""Compares ways to raise the AP of small objects, and their costs: SPD-Conv and alternatives.

    python benchmarks/small_objects.py train deeppcb --weights yolov5n.pt --hold-out 100 \\
        --train deeppcb/annotations/instances_trainval.json \\
        --test deeppcb/annotations/instances_test.json --images 320 --image-size 320 --epochs 8
    python benchmarks/small_objects.py time --image-size 320
    python benchmarks/small_objects.py table deeppcb

`train` trains each variant (`--variants`; all in small_object_variants.py by default) from the COCO
checkpoint `--weights`, or from random weights without it, with the same recipe, order and
augmentation, and scores it on the test images. The last epoch is scored, so no epoch is chosen.
Runs that have a JSON file in `benchmarks/results/small_objects` are skipped, and stopped runs
resume. `time` measures steps and predictions of each variant, alternating with the first. `table`
prints both and draws AP.
"""

import argparse
import collections
import dataclasses
import functools
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import time

import keras_spd
from finetuning import HERE, field, read_data, show
from keras_spd.images.tiles import tile_corners
from keras_spd.training import load_recipe, train
from keras_spd.training.run_folder import RunFolder
from small_object_variants import VARIANTS, build, multiply_adds

import cv2
import keras
import numpy as np

RESULTS = HERE / "results/small_objects"


def run(arguments, name, seed, data):
    """Trains one variant with one seed, unless its result exists."""
    start = "coco" if arguments.weights else "random"
    run_name = f"{arguments.table}_{name}_{start}_{arguments.epochs}epochs_seed{seed}"
    result = arguments.results / f"{run_name}.json"
    if result.is_file():
        print(f"{result} exists, so nothing is trained, whatever the options. Rename it to rerun.")
        return result
    folder = RunFolder(arguments.runs / f"{run_name}_{arguments.image_size}px")
    if VARIANTS[name].enlarged:
        data = [reduced(part, arguments.image_size) for part in data]
    training, validation, test = data
    names, tiles = training.class_names, VARIANTS[name].tiles
    keras.utils.set_random_seed(seed)
    detector, side = build(name, arguments.image_size, len(names), names, arguments.weights)
    epochs = arguments.epochs
    if "training" in tiles:  # as many steps as the others
        images = training.num_images
        training = training.tiles(side)
        epochs = max(1, round(epochs * images / training.num_images))
    overrides = {
        "seed": seed,
        "epochs": epochs,
        "evaluate_every": epochs,
        "data.image_size": [side, side],
        **VARIANTS[name].recipe,
        **dict(arguments.set),
    }
    recipe = load_recipe(
        "finetune" if arguments.weights else "short", task="detection", overrides=overrides
    )
    resume = folder.state.is_file()
    model = train(
        None if resume else recipe,
        folder.path,
        model=None if resume else detector,
        train_data=training,
        test_data=validation,
        resume=resume,
        verbose=2,
    )
    tile = side if "prediction" in tiles else None
    content = {
        "variant": name,
        "start": "random" if (VARIANTS[name].equal_cost or ("",))[0] == "width" else start,
        "seed": seed,
        "epochs": arguments.epochs,
        "side": side,
        "images": {"training": training.num_images, "test": test.num_images},
        "parameters": model.count_params(),
        "multiply_adds": multiply_adds(name, arguments.image_size),
        "predictions": _predictions(test, tile),
        "test": keras_spd.evaluate(model, test, side, tile=tile).to_json(),
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(content, indent=2) + "\n")
    return result


def reduced(data, side):
    """Returns data whose images have the detail of `side` pixels, but the size they had."""

    def read(image):
        pixels, (height, width) = image.read(), image.size_hw
        scale = side / max(height, width)
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        enlarged = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        return cv2.imencode(".png", enlarged[..., ::-1])[1].tobytes()

    images = [
        dataclasses.replace(image, source=functools.partial(read, image)) for image in data.images
    ]
    return dataclasses.replace(data, images=tuple(images))


def _predictions(data, tile):
    """Returns how often the network runs on an image: on its tiles and on the whole of it."""
    if tile is None:
        return 1
    corners = tile_corners(data.images[0].size_hw, (tile, tile), 0.2)
    return len(corners) + 1 if len(corners) > 1 else 1


def run_training(arguments):
    wanted = list(itertools.product(arguments.seeds, arguments.variants))
    if len(wanted) > 1:  # each in a process of its own, because a training leaves 1 GB of graphs
        for seed, name in wanted:
            options = ["--seeds", str(seed), "--variants", name]
            subprocess.run([sys.executable, *sys.argv, *options], check=True)
        return
    [[seed, name]] = wanted
    content = json.loads(run(arguments, name, seed, read_data(arguments)).read_text())
    print(f"{name}, seed {seed}: AP {100 * content['test']['metrics']['AP']:.1f}", flush=True)


def run_time(arguments):
    """Times a training step and a prediction of each variant beside those of the first."""
    first, *others = dict.fromkeys(["spd", *arguments.variants])  # time.json: ratios to spd
    if len(others) > 1:  # each pair in a process of its own, because graphs stay in memory
        for name in others:
            subprocess.run([sys.executable, *sys.argv, "--variants", first, name], check=True)
        return
    calls = {}
    for name in (first, *others):
        calls["step", name], calls["prediction", name] = timed_calls(name, arguments)
    seconds = collections.defaultdict(list)
    for turn in range(arguments.turns + 2):
        for key, call in calls.items():
            begun = time.perf_counter()
            call()
            if turn >= 2:  # warm
                seconds[key].append(time.perf_counter() - begun)
    path = arguments.results / "time.json"
    ratios = json.loads(path.read_text()) if path.is_file() else {}
    for name in (first, *others):
        ratios[name] = {
            what: statistics.median(
                a / b for a, b in zip(seconds[what, name], seconds[what, first], strict=True)
            )
            for what in _TIMED
        }
        shown = ", ".join(f"{what} {ratio:.2f}" for what, ratio in ratios[name].items())
        print(f"{name}: {shown} of {first}", flush=True)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(ratios, indent=2) + "\n")


def timed_calls(name, arguments):
    """Returns functions that run a training step and a prediction of one image."""
    rng = np.random.default_rng(0)
    detector, side = build(name, arguments.image_size, classes=6)
    detector.compile()
    images = rng.uniform(0, 255, (arguments.batch_size, side, side, 3)).astype("float32")
    corners = rng.uniform(0, side - 40, (arguments.batch_size, 10, 2))
    truth = {
        "boxes": np.concatenate([corners, corners + 20], axis=-1).astype("float32"),
        "classes": rng.integers(0, 6, (arguments.batch_size, 10)),
    }
    return (
        functools.partial(detector.train_on_batch, images, truth),
        functools.partial(detector.predict_on_batch, images[:1]),
    )


def run_table(arguments):
    timed = arguments.results / "time.json"
    times = json.loads(timed.read_text()) if timed.is_file() else {}
    found = collections.defaultdict(list)
    for path in sorted(arguments.results.glob(f"{arguments.table}_*.json")):
        result = json.loads(path.read_text())
        found[result["start"], result["epochs"], result["variant"]].append(result)
    order = list(VARIANTS)
    points = []
    columns = ["AP", "AP50", "AP_small"]
    titles = ["variant", "start", "input", "G multiply-adds", *_TIMED, "seeds", *columns]
    print(f"| {' | '.join(titles)} |\n{'| --- ' * len(titles)}|")
    for key in sorted(found, key=lambda key: (*key[:2], order.index(key[2]))):
        start, epochs, name = key
        runs, row = found[key], times.get(name, {})
        cost = runs[0]["predictions"] * runs[0]["multiply_adds"] / 1e9
        cells = [VARIANTS[name].label, f"{start}, {epochs} epochs", str(runs[0]["side"])]
        cells += [f"{cost:.2f}", *(f"{row[k]:.2f}" if k in row else "" for k in _TIMED)]
        cells += [str(len(runs))]
        cells += [show([one["test"]["metrics"][column] for one in runs]) for column in columns]
        print(f"| {' | '.join(cells)} |")
        label = f"{cells[0]}{', random weights' if start == 'random' else ''}: {cost:.2f} G"
        points.append((label, [100 * one["test"]["metrics"]["AP"] for one in runs], name))
    draw(points, arguments.picture)


_TIMED = ("step", "prediction")


def draw(points, path):
    """Draws AP of each variant, a point for each seed, with its multiply-adds beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = sorted(points, key=lambda point: statistics.mean(point[1]))
    figure, axis = pyplot.subplots(figsize=(8, 0.9 + 0.24 * len(points)))
    for row, (_, values, name) in enumerate(points):
        color = "C0" if name.startswith("spd") else "C1" if name.startswith("strided") else "C2"
        axis.plot(values, [row] * len(values), "o", color=color)
    axis.set_yticks(range(len(points)), [label for label, *_ in points], fontsize=8)
    axis.set(xlabel="AP on test images", xlim=(0, None))
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    shared.add_argument("--image-size", type=int, default=320)
    shared.add_argument("--results", type=pathlib.Path, default=RESULTS)
    training = commands.add_parser("train", parents=[shared])
    training.add_argument("table", help="what the results are called: the dataset")
    training.add_argument("--weights", type=pathlib.Path, help="YOLOv5-n's checkpoint")
    training.add_argument("--train", required=True)
    training.add_argument("--val")
    training.add_argument("--test", required=True)
    training.add_argument("--hold-out", type=int, default=0, help="training images left out")
    training.add_argument("--images", type=int, help="only as many of the other training images")
    training.add_argument("--epochs", type=int, default=8)
    training.add_argument("--seeds", type=int, nargs="+", default=[0])
    training.add_argument(
        "--set", type=field, nargs="*", action="extend", default=[], metavar="FIELD=JSON"
    )
    training.add_argument("--runs", type=pathlib.Path, default="runs/small_objects")
    training.set_defaults(run=run_training)
    timing = commands.add_parser("time", parents=[shared])
    timing.add_argument("--batch-size", type=int, default=8)
    timing.add_argument("--turns", type=int, default=5)
    timing.set_defaults(run=run_time)
    table = commands.add_parser("table")
    table.add_argument("table")
    table.add_argument("--results", type=pathlib.Path, default=RESULTS)
    table.add_argument("--picture", default=HERE.parent / "docs/small_objects.png")
    table.set_defaults(run=run_table)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
