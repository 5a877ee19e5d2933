"""Options of `keras-spd predict`."""

import enum
import pathlib
from typing import Annotated

import typer

from keras_spd.cli import options


class Engine(enum.StrEnum):
    """What runs the prediction."""

    LOCAL = "local"
    RAY = "ray"


class Annotations(enum.StrEnum):
    """Formats of annotation files."""

    COCO = "coco"
    YOLO = "yolo"
    LABEL_STUDIO = "label-studio"


Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCES",
        help="Images, videos, folders, and globs in quotes: 'photos/**/*.jpg'; ray: also addresses "
        "such as s3://bucket/photos.",
    ),
]
Webcam = Annotated[int | None, typer.Option(min=0, help="Camera, 0 for the first; Ctrl-C ends it.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images, frames or tiles in a batch.")]
EngineName = Annotated[
    Engine, typer.Option(help="ray: images in many processes, results as Parquet.")
]
Confidence = Annotated[
    float | None, options.fraction("Smallest confidence; default: the model's, 0.25.")
]
IoU = Annotated[float | None, options.fraction("IoU threshold of NMS; default: the model's, 0.45.")]
Output = Annotated[pathlib.Path, typer.Option(help="Folder for pictures, videos, JSON and CSV.")]
Address = Annotated[
    str | None, typer.Option(help="ray: the cluster's address; default: this machine.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="ray: processes; default: one per GPU, or one per four CPUs."),
]
Pictures = Annotated[
    bool, typer.Option("--pictures/--no-pictures", help="Write pictures and videos.")
]
Labels = Annotated[
    bool, typer.Option("--labels/--no-labels", help="Write names and confidences beside boxes.")
]
AnnotationFormat = Annotated[
    Annotations | None,
    typer.Option(
        "--annotations",
        help="Also write annotations to correct or train on: coco (also for CVAT), yolo or "
        "label-studio.",
    ),
]
