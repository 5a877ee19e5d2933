"""`keras-spd benchmark`."""

import os
import pathlib
from typing import Annotated

import typer

from keras_spd.cli import options, parsing
from keras_spd.files import check_folder_of, write_json


def benchmark(
    files: Annotated[
        list[pathlib.Path],
        typer.Argument(help=".keras, .pt, .tflite and .onnx files and SavedModel folders."),
    ],
    image_size: options.ImageSize = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per call, if the model does not fix it.")
    ] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each model.")] = 30,
    threads: Annotated[
        int, typer.Option(min=1, show_default="all", help="CPU threads for each model.")
    ] = os.cpu_count() or 1,
    image: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Image to time on; default: noise. A detector's time depends on its boxes."
        ),
    ] = None,
    output: Annotated[pathlib.Path | None, typer.Option(help="JSON file for the numbers.")] = None,
) -> None:
    """Time model files on this machine, alternating, each in its own process.

    Ratios are relative to the first file. A missing file stops the command. One that cannot
    be run is named, the others are timed, and the exit code is 1. Memory is the peak resident
    memory of the process, minus Python and the imported libraries.

    Example: keras-spd benchmark model.keras model.tflite model_int8.tflite served/
    """
    size = parsing.parse_image_size(image_size)
    parsing.require_files(files)
    check_folder_of(output)
    if threads > (os.cpu_count() or 1):
        raise ValueError(f"`--threads` is {threads}; this machine has {os.cpu_count()} CPUs.")
    from keras_spd.benchmark import measure_files
    from keras_spd.benchmark.report import describe_measurements, format_measurements

    rows = measure_files(
        files,
        image_size=size,
        batch_size=batch_size,
        repeats=repeats,
        threads=threads,
        image=image,
    )
    typer.echo(format_measurements(rows))
    typer.echo(f"{image or 'Noise'}, {threads} {'threads' if threads > 1 else 'thread'}.")
    if output is not None:
        write_json(output, describe_measurements(rows, repeats, threads, image))
        typer.echo(f"Wrote {output}")
    if len(rows) < len(files):
        raise typer.Exit(1)
