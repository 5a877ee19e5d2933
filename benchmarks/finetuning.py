"""Fine-tunes detectors from random weights, from COCO by exact transfer, or by copied tensors.

    python benchmarks/finetuning.py train bccd --weights yolov5n.pt --seeds 0 1 2 \\
        --train bccd/annotations/instances_train.json \\
        --val bccd/annotations/instances_val.json --test bccd/annotations/instances_test.json
    python benchmarks/finetuning.py train deeppcb --weights yolov5n.pt --hold-out 100 \\
        --train deeppcb/annotations/instances_trainval.json \\
        --test deeppcb/annotations/instances_test.json
    python benchmarks/finetuning.py table bccd deeppcb

`train` fine-tunes from each start with the recipe `finetune`, the same order and augmentation. It
scores the validation images after each epoch, and the best epoch on the test images. Runs that have
a JSON file in `benchmarks/results/finetuning` are skipped, and stopped runs resume. `--weights` is
the official checkpoint. `table` prints the results and draws the curves.
"""

import argparse
import collections
import dataclasses
import json
import math
import pathlib
import statistics
import time

import keras_spd
from keras_spd.applications import YOLOV5SPD
from keras_spd.data import load_detection
from keras_spd.training import load_recipe, train
from keras_spd.training.run_folder import RunFolder

import keras
import numpy as np

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results/finetuning"
STARTS = {
    "random_spd": "SPD, random",
    "shapes_spd": "SPD, tensors of equal shape from COCO",
    "random_strided": "strided, random",
    "coco_strided": "strided, from COCO",
    "coco_spd": "SPD, from COCO by exact transfer",
}


def start_weights(start, folder, weights, class_names):
    """Returns the `weights` that a run starts with: `None` or a file."""
    if start.startswith("random"):
        return None
    if start.startswith("coco"):
        return str(weights)
    options = {"classes": len(class_names), "class_names": class_names}
    model = YOLOV5SPD("n", **options)
    strided = YOLOV5SPD("n", downsampling="strided", weights=weights, **options)
    theirs = {variable.path: variable for variable in strided.network.variables}
    for variable in model.network.variables:
        if variable.path in theirs and theirs[variable.path].shape == variable.shape:
            variable.assign(theirs[variable.path])
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "start.keras")
    return str(folder / "start.keras")


def read_data(arguments):
    """Returns training, validation and test data."""
    if not (arguments.val or arguments.hold_out):
        raise SystemExit("There are no validation images: pass --val, or --hold-out NUMBER.")
    training = load_detection(arguments.train)
    order = np.random.default_rng(0).permutation(training.num_images)

    def part(indices):
        images = tuple(training.images[index] for index in indices)
        return dataclasses.replace(training, images=images)

    held_out, used = np.split(order, [arguments.hold_out])
    names = training.class_names
    validation = (
        load_detection(arguments.val, class_names=names) if arguments.val else part(held_out)
    )
    test = load_detection(arguments.test, class_names=names)
    return part(used[: arguments.images]), validation, test


def run(arguments, start, seed, data):
    """Trains one start with one seed, and returns the path of its result."""
    epochs = arguments.epochs
    name = f"{arguments.table}_{start}_{epochs}epochs_seed{seed}"
    result = arguments.results / f"{name}.json"
    if result.is_file():
        print(f"{result} exists, so nothing is trained, whatever the options. Rename it to rerun.")
        return result
    folder = RunFolder(arguments.runs / f"{name}_{arguments.image_size}px")
    training, validation, test = data
    overrides = {
        "seed": seed,
        "epochs": epochs,
        "evaluate_every": arguments.evaluate_every,
        "data.image_size": [arguments.image_size] * 2,
        "model.options": {"downsampling": start.split("_")[1]},
        **dict(arguments.set),
    }
    if folder.state.is_file():
        recipe = None
    else:
        keras.utils.set_random_seed(seed)  # for the tensors that are not copied
        weights = start_weights(start, folder.path, arguments.weights, training.class_names)
        if weights:
            overrides["model.weights"] = weights
        recipe = load_recipe("finetune", task="detection", overrides=overrides)
    begun, resume = time.perf_counter(), recipe is None
    model = train(
        recipe,
        folder.path,
        train_data=training,
        test_data=validation,
        resume=resume,
        verbose=2,
    )
    seconds = time.perf_counter() - begun
    scores = {}
    if not arguments.no_test:
        scores = keras_spd.evaluate(model, test, arguments.image_size).to_json()
    content = {
        "start": start,
        "seed": seed,
        "epochs": epochs,
        "images": {
            "training": training.num_images,
            "validation": validation.num_images,
            "test": test.num_images,
        },
        "validation_AP": {
            int(row["epoch"]) + 1: row["val_AP"]
            for row in folder.read_log()
            if not math.isnan(row["val_AP"])
        },
        "test": scores,
        "seconds": None if resume else round(seconds),
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(content, indent=2) + "\n")
    return result


def run_training(arguments):
    data = read_data(arguments)
    for seed in arguments.seeds:
        for start in arguments.starts:
            path = run(arguments, start, seed, data)
            curve = json.loads(path.read_text())["validation_AP"]
            print(path.name, *(f"{100 * ap:.1f}" for ap in curve.values()), flush=True)


def read_results(arguments, table):
    """Returns `{(start, epochs): [result, ...]}`, a result for each seed."""
    found = collections.defaultdict(list)
    for path in sorted(arguments.results.glob(f"{table}_*.json")):
        result = json.loads(path.read_text())
        found[result["start"], result["epochs"]].append(result)
    order = list(STARTS)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def show(values):
    """Returns the mean in per cent, with the standard deviation if there are several seeds."""
    values = [100 * value for value in values]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def run_table(arguments):
    for table in arguments.tables:
        results = read_results(arguments, table)
        if not results or not all(one["test"] for runs in results.values() for one in runs):
            raise SystemExit(f"{arguments.results} has no test scores of {table!r}.")
        sides = next(iter(results.values()))[0]["test"]["by_side"]
        sides = [side for side, row in sides.items() if row["boxes"]]
        columns = ["AP", "AP50", "AP_small"]
        print(
            f"\n| start | epochs | seeds | {' | '.join(columns + [f'AP {s} px' for s in sides])} |"
        )
        print("| --- " * (3 + len(columns) + len(sides)) + "|")
        for (start, epochs), runs in results.items():
            cells = [show([one["test"]["metrics"][name] for one in runs]) for name in columns]
            cells += [show([one["test"]["by_side"][side]["AP"] for one in runs]) for side in sides]
            print(f"| {STARTS[start]} | {epochs} | {len(runs)} | {' | '.join(cells)} |")
    draw({table: read_results(arguments, table) for table in arguments.tables}, arguments.picture)


def draw(tables, path):
    """Draws AP on validation images over epochs, the mean of the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(tables), figsize=(5 * len(tables) + 3, 3.6), squeeze=False
    )
    for axis, (table, results) in zip(axes[0], tables.items(), strict=True):
        usual = min(epochs for _, epochs in results)
        for (start, epochs), runs in results.items():
            curves = 100 * np.array([list(one["validation_AP"].values()) for one in runs])
            steps = [int(epoch) for epoch in runs[0]["validation_AP"]]
            color = f"C{list(STARTS).index(start)}"
            label, style = STARTS[start], "-"
            if epochs > usual:
                label, style = f"{label}, {epochs} epochs", "--"
            [line] = axis.plot(
                steps, curves.mean(axis=0), style, color=color, marker=".", label=label
            )
            if len(runs) > 1:
                axis.fill_between(
                    steps, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.15
                )
        axis.set(title=table, xlabel="epoch", ylabel="AP on validation images")
        axis.grid(alpha=0.3)
    axes[0][-1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def field(text):
    name, _, value = text.partition("=")
    return name, json.loads(value)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("table", help="what the results are called: the dataset")
    training.add_argument("--weights", type=pathlib.Path, required=True)
    training.add_argument("--train", required=True)
    training.add_argument("--val")
    training.add_argument("--test", required=True)
    training.add_argument("--hold-out", type=int, default=0, help="training images to validate on")
    training.add_argument("--images", type=int, help="only as many of the other training images")
    training.add_argument("--image-size", type=int, default=320)
    training.add_argument("--epochs", type=int, default=8)
    training.add_argument("--evaluate-every", type=int, default=1, help="epochs")
    training.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    training.add_argument("--seeds", type=int, nargs="+", default=[0])
    training.add_argument(
        "--set", type=field, nargs="*", action="extend", default=[], metavar="FIELD=JSON"
    )
    training.add_argument("--no-test", action="store_true", help="leave the test images alone")
    training.add_argument("--runs", type=pathlib.Path, default="runs/finetuning")
    training.add_argument("--results", type=pathlib.Path, default=RESULTS)
    training.set_defaults(run=run_training)
    table = commands.add_parser("table")
    table.add_argument("tables", nargs="+")
    table.add_argument("--results", type=pathlib.Path, default=RESULTS)
    table.add_argument("--picture", default=HERE.parent / "docs/finetuning.png")
    table.set_defaults(run=run_table)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
