"""Measurements as a table and as a JSON record."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from keras_spd.benchmark.latency import Measurement
from keras_spd.machine import processor


def format_measurements(rows: Sequence[Measurement]) -> str:
    """Returns a table of all files, and parameters and multiply-adds where they are known.

    Args:
        rows: Measurements of one run. Ratios are to the first.
    """
    table = [("file", "size", "input", "median", "p95", "images/s", "ratio", "memory")]
    for row in rows:
        height, width = row.image_size
        table.append(
            (
                row.file,
                f"{row.size / 1e6:.1f} MB",
                f"{row.batch_size} x {height}x{width}",
                f"{1e3 * row.median:.1f} ms",
                f"{1e3 * row.p95:.1f} ms",
                f"{row.images_per_second:.1f}",
                f"{rows[0].images_per_second / row.images_per_second:.2f}",  # time per image
                f"{row.memory / 1e6:.0f} MB",
            )
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    ]
    for row in rows:
        if row.parameters is not None:
            count = f"{row.multiply_adds / 1e9:.3f} G" if row.multiply_adds else "unknown"
            lines.append(
                f"{row.file}: {row.parameters:,} parameters, {count} multiply-adds per image"
            )
    return "\n".join(lines)


def describe_measurements(
    rows: Sequence[Measurement], repeats: int, threads: int, image: str | os.PathLike | None
) -> dict[str, Any]:
    """Returns the numbers and the machine they were measured on, for a JSON file."""
    return {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": threads},
        "image": None if image is None else str(image),
        "repeats": repeats,
        "files": [
            {**dataclasses.asdict(row), "images_per_second": row.images_per_second} for row in rows
        ],
    }
