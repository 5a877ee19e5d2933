"""`keras-spd train`."""

import json
import pathlib
import sys
from typing import Annotated, Any

import typer


def train(
    model: Annotated[
        str | None, typer.Argument(help="Network, such as resnet18_spd; default: the recipe's.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="TFDS data set, such as cifar10.")] = None,
    recipe: Annotated[
        str, typer.Option(help="Recipe of the package (paper, short, ...) or a .toml file.")
    ] = "short",
    data_dir: Annotated[
        pathlib.Path | None, typer.Option(help="Folder with prepared TFDS data sets.")
    ] = None,
    run: Annotated[
        pathlib.Path | None, typer.Option(help="Run folder; default: runs/MODEL_DATASET_SEED.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the stopped run in the run folder.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the recipe's.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help='Any other field of the recipe, e.g. model.options.downsampling="strided".',
        ),
    ] = None,
) -> None:
    """Train a classifier on a TFDS data set.

    Example: keras-spd train resnet50_spd --dataset cifar10 --recipe paper

    The run folder gets the resolved recipe, a CSV and a TensorBoard log, the state to resume from,
    the best weights, the trained model (model.keras) and its test accuracy (results.json).
    """
    from keras_spd import training

    overrides = dict(_parse(assignment) for assignment in set_ or [])
    named = {"model.name": model, "epochs": epochs, "seed": seed}
    named["data.data_dir"] = str(data_dir) if data_dir else None
    overrides |= {field: value for field, value in named.items() if value is not None}
    if resume:
        if run is None:
            raise ValueError("`--resume` needs the run folder: `--run runs/...`.")
        resolved = None
    else:
        resolved = training.load_recipe(recipe, dataset=dataset, overrides=overrides)
        run = run or pathlib.Path(
            "runs", f"{resolved.model.name}_{resolved.data.name}_{resolved.seed}"
        )
    try:
        # A progress bar on a terminal, a line an epoch in a log file.
        verbose = "auto" if sys.stdout.isatty() else 2
        training.train(resolved, run, resume=resume, verbose=verbose)
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. Go on with: keras-spd train --resume --run {run}", err=True)
        raise typer.Exit(130) from None
    results = json.loads((run / "results.json").read_text())
    typer.echo(f"Test accuracy {results['test_accuracy']:.4f}. Everything is in {run}/")


def _parse(assignment: str) -> tuple[str, Any]:
    """Splits `FIELD=VALUE`; the value is JSON where it can be read so, else a string."""
    field, equals, value = assignment.partition("=")
    if not equals:
        raise ValueError(f"`--set` takes FIELD=VALUE. Received: {assignment!r}.")
    try:
        return field.strip(), json.loads(value)
    except json.JSONDecodeError:
        return field.strip(), value
