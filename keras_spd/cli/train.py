"""`keras-spd train`."""

import json
import pathlib
import sys
from typing import Annotated, Any

import typer

from keras_spd.cli import completion, options


def train(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Network, such as resnet18_spd; default: the recipe's.",
            autocompletion=completion.networks,
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="TFDS data set, such as cifar10 or voc/2012.")
    ] = None,
    train_: Annotated[
        str | None,
        typer.Option(
            "--train",
            help="Detectors: COCO .json, YOLO data.yaml[:split] or folder, VOC folder. "
            "Classifiers: folder with a subfolder of images for each class. With --dataset, a "
            "split.",
        ),
    ] = None,
    test: Annotated[str | None, typer.Option(help="Test data, as --train.")] = None,
    images: options.Images = None,
    image_size: options.ImageSize = None,
    weights: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Weights to start from: a name from `keras-spd list`, or a .keras, .weights.h5, "
            ".pt, .pth or .safetensors file. Default: random weights.",
            autocompletion=completion.weights,
        ),
    ] = None,
    backbone: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Trained classifier to use as the backbone of a detector: model.keras in the run "
            "folder of a classifier, or a name from `keras-spd list`, such as cifar10.",
            autocompletion=completion.weights,
        ),
    ] = None,
    model_file: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--model",
            help="Model to train instead of a named network: a detector or classifier in a .keras, "
            ".pt, .pth or .safetensors file.",
        ),
    ] = None,
    class_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=OTHER",
            help="A class of your data that has another name in the weights or the model, e.g. "
            "vessel=boat. Repeatable.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Shipped recipe (paper, short, ...) or a .toml file. Default: short; with "
            "--weights, finetune for detectors and few_images for classifiers.",
            autocompletion=completion.recipes,
        ),
    ] = None,
    data_dir: Annotated[
        pathlib.Path | None, typer.Option(help="Folder with prepared TFDS data sets.")
    ] = None,
    run: Annotated[
        pathlib.Path | None, typer.Option(help="Run folder; default: runs/MODEL_DATASET_SEED.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the stopped run in the run folder.")
    ] = False,
    devices: Annotated[
        str | None,
        typer.Option(help='"all" to share each batch among all devices; default: one device.'),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Default: the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Default: the recipe's.")] = None,
    on_problem: Annotated[
        options.Reaction | None,
        typer.Option(help="What to do about broken images and annotations."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help='Any other field of the recipe, e.g. model.options.downsampling="strided".',
        ),
    ] = None,
) -> None:
    """Train a classifier or a detector.

    Example: keras-spd train resnet50_spd --dataset cifar10 --recipe paper

    Example: keras-spd train yolov5_spd_n --train boards/train.json --test boards/test.json
    --image-size 320 --epochs 40 --run runs/boards

    Example: keras-spd train yolov5_spd_n --weights bccd --train boards/train.json
    --test boards/test.json --run runs/boards

    Example: keras-spd train yolov5_spd_n --backbone runs/classifier/model.keras
    --train boards/train.json --test boards/test.json --run runs/boards

    Example: keras-spd train --model converted.keras --train boards/train.json
    --test boards/test.json --run runs/converted

    The run folder gets the resolved recipe, a CSV and a TensorBoard log, the state to resume from,
    the best weights, the trained model (model.keras) and its test scores (results.json).
    """
    from keras_spd import applications, training
    from keras_spd.predict.loading import load_model

    networks = [*applications.CLASSIFIERS, *applications.DETECTORS]
    if model is not None and model not in networks:
        raise ValueError(
            f"There is no network {model!r}. Available networks: {', '.join(networks)}."
        )
    if model and model_file:
        raise ValueError(
            "Give either the name of a network or `--model`, not both. "
            f"Received: {model} and {model_file}."
        )
    if backbone and (weights or model_file):
        raise ValueError(
            "`--backbone` cannot be combined with `--weights` or `--model`, which bring their own "
            f"backbone. Received: --backbone {backbone} and {weights or model_file}."
        )
    if backbone and model in applications.CLASSIFIERS:
        raise ValueError(
            f"`--backbone` is for detectors, and {model} is a classifier. To start it from another "
            f"classifier, use `--weights {backbone}`."
        )
    given = load_model(model_file) if model_file else None
    detects = model in applications.DETECTORS or isinstance(given, applications.Detector)
    detects = detects or backbone is not None  # of the network that the recipe names
    named = {
        "model.name": str(model_file) if model_file else model,
        "model.weights": str(weights) if weights else None,
        "model.backbone": str(backbone) if backbone else None,
        "model.class_map": _pairs(class_map) if class_map else None,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "data.name": dataset,
        "data.data_dir": str(data_dir) if data_dir else None,
        "data.train": train_,
        "data.test": test,
        "data.images": str(images) if images else None,
        "data.image_size": options.parse_image_size(image_size),
        "data.on_problem": on_problem.value if on_problem else None,
    }
    overrides = _collect(named, set_ or [])
    has_data = dataset or train_ or resume or "data.name" in overrides
    if detects and not (has_data or "data.train" in overrides or str(recipe).endswith(".toml")):
        raise ValueError(
            "A detector is trained on your data: `--train ... --test ...` with COCO `.json` files, "
            "YOLO's `data.yaml:train` and `data.yaml:val`, or folders of VOC `.xml` files; or on a "
            "TFDS data set, `--dataset voc/2012 --train train --test validation`."
        )
    if train_ and not dataset and not test:
        raise ValueError("`--train` needs `--test`, the data that scores are computed on.")
    if not (has_data or "data.train" in overrides or recipe):
        raise ValueError(
            "There is nothing to train on. Give a network and your data, `keras-spd train "
            "resnet18_spd --train FOLDER --test FOLDER` (see `keras-spd train --help` for "
            "formats), a TFDS data set, `--dataset cifar10`, or a recipe with data, "
            "`--recipe demo`."
        )
    if resume:
        if run is None:
            raise ValueError("`--resume` needs the run folder: `--run runs/...`.")
        others = [f"{field}={value}" for field, value in overrides.items()]
        if others or recipe:
            raise ValueError(
                f"`--resume` uses the recipe in {run}, and can only be combined with `--run` and "
                f"`--devices`. Received: {', '.join(others) or recipe}."
            )
        resolved = None
    else:
        if train_ and not dataset:
            overrides["data.name"] = None  # not the recipe's
        task = "detection" if detects else "classification" if given is not None else None
        if recipe is None:
            started = "finetune" if detects else "few_images"
            recipe = started if weights or model_file else "short"
        resolved = training.load_recipe(recipe, task=task, dataset=dataset, overrides=overrides)
        source = resolved.data.name or pathlib.Path(resolved.data.train.split(":")[0]).stem
        source = source.replace("/", "_")
        network = pathlib.Path(resolved.model.name).stem
        run = run or pathlib.Path("runs", f"{network}_{source}_{resolved.seed}")
    try:
        # A progress bar on a terminal, one line per epoch in a log file.
        verbose = "auto" if sys.stdout.isatty() else 2
        trained = training.train(
            resolved, run, model=given, resume=resume, devices=devices, verbose=verbose
        )
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. Resume with: keras-spd train --resume --run {run}", err=True)
        raise typer.Exit(130) from None
    if trained is None:
        typer.echo(f"This worker is done. The first one writes {run}/")
        return
    results = json.loads((run / "results.json").read_text())
    if "test_accuracy" in results:
        score = f"Test accuracy {results['test_accuracy']:.4f}"
    else:
        names = [name for name in ("AP", "AP50", "AP_small") if results[name] >= 0]
        score = ", ".join(f"{name} {results[name]:.3f}" for name in names)
    typer.echo(f"{score}. Everything is in {run}/")


def _collect(named: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Returns the fields that options and `--set` change; raises an error if two contradict."""
    fields = {field: value for field, value in named.items() if value is not None}
    for field, value in map(_parse, assignments):
        for other, before in fields.items():
            differs = field == other and value != before
            if differs or field.startswith(f"{other}.") or other.startswith(f"{field}."):
                raise ValueError(
                    f"The options contradict each other: `{other}` is {before!r}, but "
                    f"`--set {field}=...` sets {value!r}. Give one of them."
                )
        fields[field] = value
    return fields


def _pairs(class_map: list[str]) -> dict[str, str]:
    """Reads `CLASS=OTHER`."""
    pairs = [text.partition("=") for text in class_map]
    if wrong := [text for text, (a, _, b) in zip(class_map, pairs, strict=True) if not (a and b)]:
        raise ValueError(f"`--class-map` takes CLASS=OTHER. Received: {', '.join(wrong)}.")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


def _parse(assignment: str) -> tuple[str, Any]:
    """Splits `FIELD=VALUE`; the value is JSON if it is valid, else a string."""
    field, equals, value = assignment.partition("=")
    if not equals:
        raise ValueError(f"`--set` takes FIELD=VALUE. Received: {assignment!r}.")
    try:
        return field.strip(), json.loads(value)
    except json.JSONDecodeError:
        return field.strip(), value
