"""Options that several commands share."""

import enum
import pathlib
from typing import Annotated, Any

import typer

from keras_spd.cli import completion


class Reaction(enum.StrEnum):
    """What to do about a broken image or annotation."""

    ERROR = "error"
    SKIP = "skip"


def fraction(text: str) -> Any:
    """Returns an option from 0 to 1 with this help."""
    return typer.Option(min=0, max=1, help=text)


Dataset = Annotated[
    str | None,
    typer.Option(help="TFDS dataset, such as voc/2012 or cifar10; DATA is then a split of it."),
]
Images = Annotated[
    pathlib.Path | None,
    typer.Option(help="Folder of the images, if it cannot be found from the annotations."),
]
DataDir = Annotated[pathlib.Path | None, typer.Option(help="Folder with prepared TFDS datasets.")]
OnProblem = Annotated[
    Reaction, typer.Option(help="What to do about broken images and annotations.")
]
ImageSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Input of the network, such as 640 or 480x640 (HxW)."),
]
Tile = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Cut larger images into overlapping tiles of this size, such as 640 or 480x640 (HxW). "
        "The network sees tiles at that size, or at `--image-size`.",
    ),
]
Overlap = Annotated[
    float | None,
    typer.Option(
        min=0, max=0.5, help="Fraction of a tile that the next tile overlaps; default 0.2."
    ),
]
Weights = Annotated[
    pathlib.Path,
    typer.Option(
        help="Trained model: .keras, .pt, .tflite, .onnx, a name from `keras-spd list`, or "
        "hf://USER/NAME.",
        autocompletion=completion.weights,
    ),
]
