"""Options of `keras-spd train` for its data, its recipe and its run."""

import pathlib
from typing import Annotated

import typer

from keras_spd.cli import completion, options

Dataset = Annotated[str | None, typer.Option(help="TFDS dataset, such as cifar10 or voc/2012.")]
Train = Annotated[
    str | None,
    typer.Option(
        "--train",
        help="Detectors: COCO .json, YOLO data.yaml[:split] or folder, VOC folder. "
        "Classifiers: folder with one subfolder of images per class. With --dataset, a split.",
    ),
]
Test = Annotated[
    str | None, typer.Option(help="Test data, in the same form as --train, to score the model.")
]
Validation = Annotated[
    str | None,
    typer.Option(
        help="Data to choose the best epoch on, like --train, or the fraction of the training data "
        "to hold out, such as 0.1. Without it, the test data."
    ),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Images per step; default: the recipe's.")
]
Seed = Annotated[int | None, typer.Option(help="Random seed; default: the recipe's.")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Epochs; default: the recipe's. With --resume, the total.")
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        help="Shipped recipe (paper, short, ...) or a .toml file. Default: short; with "
        "--weights or --model, finetune for detectors and few_images for classifiers.",
        autocompletion=completion.recipes,
    ),
]
Run = Annotated[
    pathlib.Path | None, typer.Option(help="Run folder; default: runs/MODEL_DATASET_SEED.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the stopped run in the run folder.")]
Devices = Annotated[
    str | None,
    typer.Option(help='"all" to split each batch over all devices; default: one device.'),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Detectors: threads that read images; default: one per core, at most 16."
    ),
]
OnProblem = Annotated[
    options.Reaction | None, typer.Option(help="What to do about broken images and annotations.")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help='Any other field of the recipe, e.g. model.options.downsampling="strided".',
    ),
]
