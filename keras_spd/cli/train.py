"""`keras-spd train`."""

import sys
from typing import Any

import typer

from keras_spd.cli import options, parsing, start_options, train_options


def train(
    model: start_options.Network = None,
    dataset: train_options.Dataset = None,
    train_: train_options.Train = None,
    test: train_options.Test = None,
    validation: train_options.Validation = None,
    images: options.Images = None,
    image_size: options.ImageSize = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    weights: start_options.Weights = None,
    backbone: start_options.Backbone = None,
    model_file: start_options.ModelFile = None,
    class_map: start_options.ClassMap = None,
    recipe: train_options.RecipeName = None,
    data_dir: options.DataDir = None,
    run: train_options.Run = None,
    resume: train_options.Resume = False,
    devices: train_options.Devices = None,
    epochs: train_options.Epochs = None,
    batch_size: train_options.BatchSize = None,
    seed: train_options.Seed = None,
    workers: train_options.Workers = None,
    on_problem: train_options.OnProblem = None,
    set_: train_options.Assignments = None,
) -> None:
    """Train a classifier or a detector.

    Example: keras-spd train resnet50_spd --dataset cifar10 --recipe paper

    Example: keras-spd train yolov5_spd_n --train boards/train.json --test boards/test.json
    --image-size 320 --epochs 40 --run runs/boards

    Example: keras-spd train yolov5_spd_n --weights bccd --train boards/train.json
    --test boards/test.json --run runs/boards

    Example: keras-spd train yolov5_spd_n --backbone runs/classifier/model.keras
    --train boards/train.json --test boards/test.json --run runs/boards

    Example: keras-spd train yolov5_spd_n --train ships/train.json --test ships/test.json
    --tile 640 --overlap 0.2 --run runs/ships

    Example: keras-spd train --model converted.keras --train boards/train.json
    --test boards/test.json --run runs/converted

    The run folder gets the recipe, a CSV and a TensorBoard log, the state to resume from,
    the best weights, the trained model (model.keras) and its test scores (results.json).
    """
    fields = {
        **start_options.model_fields(model, model_file, weights, backbone, class_map),
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "data.name": dataset,
        "data.data_dir": parsing.text(data_dir),
        "data.train": train_,
        "data.test": test,
        "data.validation": parsing.parse_validation(validation),
        "data.images": parsing.text(images),
        "data.image_size": parsing.parse_image_size(image_size),
        "data.tile": parsing.parse_tile(tile, overlap),
        "data.tile_overlap": overlap,
        "data.workers": workers,
        "data.on_problem": parsing.text(on_problem),
    }
    from keras_spd import training
    from keras_spd.predict.files import trust_image_sizes
    from keras_spd.training import command_line
    from keras_spd.training.best_epoch import summarize
    from keras_spd.training.errors import describe_saved_state
    from keras_spd.training.run_folder import RunFolder

    if resume:
        run = command_line.check_resume(run, fields, set_ or [], recipe)
        chosen, given, total = None, None, epochs
    else:
        chosen, given = command_line.choose_recipe(fields, set_ or [], recipe, model_file)
        run, total = run or command_line.default_run_folder(chosen), None
    trust_image_sizes(any_size=resume or command_line.has_tiles(chosen))
    verbose = "auto" if sys.stdout.isatty() else 2  # a progress bar, or lines
    try:
        settings: Any = {"resume": resume, "epochs": total, "devices": devices, "verbose": verbose}
        trained = training.train(chosen, run, model=given, **settings)
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. {describe_saved_state(RunFolder(run))}", err=True)
        raise typer.Exit(130) from None
    if trained is None:
        return typer.echo(f"This worker is done. The first one writes {run}/")
    typer.echo(summarize(RunFolder(run)))
