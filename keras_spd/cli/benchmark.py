"""`keras-spd benchmark`."""

import dataclasses
import os
import pathlib
import platform
from typing import Annotated

import typer

from keras_spd.cli import options
from keras_spd.files import write_json


def benchmark(
    files: Annotated[
        list[pathlib.Path],
        typer.Argument(help=".keras, .tflite and .onnx files and SavedModel folders."),
    ],
    image_size: options.ImageSize = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per call, if the model does not fix it.")
    ] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls of each model.")] = 30,
    threads: Annotated[
        int, typer.Option(min=1, show_default="all", help="CPU threads for each model.")
    ] = os.cpu_count() or 1,
    output: Annotated[pathlib.Path | None, typer.Option(help="JSON file for the numbers.")] = None,
) -> None:
    """Time model files on this machine, alternating, each in its own process.

    Ratios are relative to the first file. If a file cannot be run, it is named, the others are
    timed, and the exit code is 1. Memory is the peak resident memory of the process, minus Python
    and the imported libraries.

    Example: keras-spd benchmark model.keras model.tflite model_int8.tflite served/
    """
    size = options.parse_image_size(image_size)
    options.require_files(files)
    if threads > (os.cpu_count() or 1):
        raise ValueError(f"`--threads` is {threads}; this machine has {os.cpu_count()} CPUs.")
    from keras_spd.benchmark import measure_files

    rows = measure_files(
        files, image_size=size, batch_size=batch_size, repeats=repeats, threads=threads
    )
    table = [("file", "size", "input", "median", "p95", "images/s", "ratio", "memory")]
    for row in rows:
        table.append(
            (
                row.file,
                f"{row.size / 1e6:.1f} MB",
                f"{row.batch_size} x {row.image_size[0]}x{row.image_size[1]}",
                f"{1e3 * row.median:.1f} ms",
                f"{1e3 * row.p95:.1f} ms",
                f"{row.images_per_second:.1f}",
                f"{row.median / rows[0].median:.2f}",
                f"{row.memory / 1e6:.0f} MB",
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())
    for row in rows:
        if row.parameters is not None:
            count = f"{row.multiply_adds / 1e9:.3f} G" if row.multiply_adds else "unknown"
            typer.echo(
                f"{row.file}: {row.parameters:,} parameters, {count} multiply-adds per image"
            )
    if output is not None:
        record = {
            "machine": {"processor": _processor(), "cores": os.cpu_count(), "threads": threads},
            "repeats": repeats,
            "files": [
                {**dataclasses.asdict(row), "images_per_second": row.images_per_second}
                for row in rows
            ],
        }
        write_json(output, record)
        typer.echo(f"Wrote {output}")
    if len(rows) < len(files):
        raise typer.Exit(1)


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
