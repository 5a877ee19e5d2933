"""Options of `keras-spd predict`."""

import enum
from typing import Annotated

import typer


class Engine(enum.StrEnum):
    """What runs the prediction."""

    LOCAL = "local"
    RAY = "ray"


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCES",
        help="Images, videos, folders, and globs in quotes: 'photos/**/*.jpg'.",
    ),
]
Webcam = Annotated[int | None, typer.Option(min=0, help="Camera, 0 for the first; Ctrl-C ends it.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images, frames or tiles in a batch.")]
EngineName = Annotated[
    Engine, typer.Option(help="ray: images in many processes, results as Parquet.")
]
Address = Annotated[
    str | None, typer.Option(help="ray: the cluster's address; default: this machine.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="ray: processes; default: one for each GPU or four CPUs."),
]
