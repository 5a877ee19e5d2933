"""Options of `keras-spd train` for what training starts from."""

import pathlib
from typing import Annotated, Any

import typer

from keras_spd.cli import completion, parsing

Network = Annotated[
    str | None,
    typer.Argument(
        help="Network, such as resnet18_spd; default: the recipe's.",
        autocompletion=completion.networks,
    ),
]
Weights = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Weights to start from: a name from `keras-spd list`, or a .keras, .weights.h5, "
        ".pt, .pth or .safetensors file. Default: random weights.",
        autocompletion=completion.weights,
    ),
]
Backbone = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Trained classifier to use as the backbone of a detector: model.keras in the run "
        "folder of a classifier, or a name from `keras-spd list`, such as cifar10.",
        autocompletion=completion.weights,
    ),
]
ModelFile = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--model",
        help="Model to train instead of a named network: a detector or classifier in a .keras, "
        ".pt, .pth or .safetensors file.",
    ),
]
ClassMap = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=OTHER",
        help="A class of your data that has another name in the weights or the model, e.g. "
        "vessel=boat. Repeatable.",
    ),
]


def model_fields(
    network: str | None,
    file: pathlib.Path | None,
    weights: object,
    backbone: object,
    class_map: list[str] | None,
) -> dict[str, Any]:
    """Returns the fields of a recipe that name the network and what it starts from."""
    return {
        "model.name": parsing.model_name(network, file),
        "model.weights": parsing.text(weights),
        "model.backbone": parsing.text(backbone),
        "model.class_map": parsing.parse_class_map(class_map),
    }
