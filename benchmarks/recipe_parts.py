"""Measures what each part of the recipe `fast` adds, in 5 epochs on 10,000 CIFAR-10 images.

    python benchmarks/recipe_parts.py --data-dir DIR

Trains ResNet18-SPD with the whole recipe, and with each part replaced by its plain alternative,
from the same seeds, and scores them on other training images. Each run has its own folder. When
started again, the script skips finished runs and resumes a stopped one. It prints a table of
accuracies, and writes `recipe_parts.json` to the folder that holds the run folders. Differences are
means over runs with the same seed, with their standard deviation. A run takes about five minutes on
two CPU cores with bfloat16.
"""

import argparse
import json
import pathlib
import statistics

from keras_spd.training import load_recipe
from train_once import train_once

PARTS = {
    "whole recipe": {},
    "batches of 128": {"batch_size": 128},
    "rate of 0.05": {"optimizer.learning_rate": 0.05},
    "no label smoothing": {"loss.label_smoothing": 0.0},
    "random flip": {"augmentation.horizontal_flip": True},
    "no translation": {"augmentation.crop_padding": 0},
    "translation of 4 pixels": {"augmentation.crop_padding": 4},
    "no average": {"optimizer.average": None},
    "decay of all weights": {"optimizer.decay_kernels_only": False},
    "cosine": {"schedule.name": "cosine"},
    "moving batch norms": {"precise_batch_norm": 0},
    "24 px first": {
        "progressive_resizing.initial_scale": 0.75,
        "progressive_resizing.delay_fraction": 0.4,
        "progressive_resizing.finetune_fraction": 0.6,
        "progressive_resizing.size_increment": 8,
    },
}


def accuracy(arguments, part, seed):
    """Returns the accuracy of a run, which is trained unless it is finished."""
    folder = arguments.runs / f"{part.replace(' ', '_')}_{seed}"
    settings = {
        "seed": seed,
        "epochs": arguments.epochs,
        "evaluate_every": arguments.epochs,  # the last epoch counts, not the best
        "data.train": f"train[:{arguments.images}]",
        "data.test": arguments.test,
        "data.data_dir": str(arguments.data_dir),
    }
    recipe = load_recipe("fast", overrides=settings | PARTS[part])
    results = train_once(recipe, folder)
    for file in ("state.weights.h5", "best.weights.h5", "model.keras"):
        folder.joinpath(file).unlink(missing_ok=True)  # half a gigabyte a run
    return results["test_accuracy"]


def print_table(results):
    print("\n| recipe | accuracy, by seed | mean | difference |\n| --- | --- | --- | --- |")
    whole = results["whole recipe"]
    for part, accuracies in results.items():
        each, mean = ", ".join(f"{100 * a:.1f}" for a in accuracies), statistics.mean(accuracies)
        differences = [100 * (a - b) for a, b in zip(accuracies, whole, strict=True)]
        shown = f"{statistics.mean(differences):+.1f}"
        if len(differences) > 1:
            shown += f" ± {statistics.stdev(differences):.1f}"
        print(f"| {part} | {each} | {100 * mean:.1f} % | {shown} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/recipe_parts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--test", default="train[-5000:]", help="split that recipes are scored on")
    arguments = parser.parse_args()
    if arguments.images > 45_000 and arguments.test == parser.get_default("test"):
        parser.error("--images above 45,000 overlap --test train[-5000:]. Pass --test test.")

    results: dict[str, list[float]] = {}
    for seed in arguments.seeds:  # all parts of a seed first: a stopped script has whole seeds
        for part in dict.fromkeys(["whole recipe", *arguments.parts]):
            results.setdefault(part, []).append(accuracy(arguments, part, seed))
            print(f"{part}, seed {seed}: {results[part][-1]:.4f}", flush=True)
    arguments.runs.joinpath("recipe_parts.json").write_text(json.dumps(results, indent=2) + "\n")
    print_table(results)


if __name__ == "__main__":
    main()
