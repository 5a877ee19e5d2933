"""Options of `keras-spd export`."""

import enum
import pathlib
from typing import Annotated, Any

import typer

from keras_spd.cli import completion


class Format(enum.StrEnum):
    """Format of the exported file."""

    TFLITE = "tflite"
    SAVED_MODEL = "saved_model"
    ONNX = "onnx"


class Quantization(enum.StrEnum):
    """How many bits a TFLite file computes with."""

    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INT8 = "int8"
    INT16X8 = "int16x8"


Model = Annotated[
    pathlib.Path,
    typer.Argument(
        help="Trained model: .keras or .pt, or a name from `keras-spd list`.",
        autocompletion=completion.weights,
    ),
]
Images = Annotated[
    str | None,
    typer.Option(
        help="Images to calibrate int8 and int16x8 and to compare on: data as in `train --train`, "
        "a folder of images, or a split of `--dataset`."
    ),
]
ImageSizes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SIZE",
        help="Input of the network, such as 640 or 480x640 (HxW). For tflite, repeat it to "
        "write a signature for each size.",
    ),
]
BatchSizes = Annotated[
    list[int] | None,
    typer.Option(
        min=1,
        help="tflite, onnx: images per call; default 1. For tflite, repeat it to write a "
        "signature for each size.",
    ),
]
Fold = Annotated[
    bool | None,
    typer.Option(
        "--fold/--no-fold",
        help="Convert SPD-Conv to strided convolutions first; default: only in SavedModels, ONNX "
        "files and int16x8.",
    ),
]


def check(format: str, quantize: str | None, data: str | None, batch_size: Any) -> None:
    """Raises a `ValueError` if options contradict each other."""
    if quantize in ("int8", "int16x8") and data is None:
        raise ValueError(
            f"`--quantize {quantize}` needs `--data`, typical images to calibrate with."
        )
    if quantize and format != "tflite":
        raise ValueError("`--quantize` is for `--format tflite`.")
    if batch_size and format == "saved_model":
        raise ValueError("A SavedModel takes batches of any size: omit `--batch-size`.")
