"""`keras-spd check-data`."""

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Annotated

import typer

from keras_spd.cli import options, parsing
from keras_spd.files import check_folder_of, write_json


def check_data(
    data: Annotated[
        str, typer.Argument(help="COCO .json, YOLO data.yaml[:split] or folder, VOC folder.")
    ],
    dataset: options.Dataset = None,
    images: options.Images = None,
    data_dir: options.DataDir = None,
    image_size: options.ImageSize = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    output: Annotated[
        pathlib.Path | None, typer.Option(help="Also write the report as JSON.")
    ] = None,
) -> None:
    """Report on a detection dataset: counts, box sizes, advice and problems.

    Every image is decoded. The exit code is 1 if there are problems or no boxes. Boxes are measured
    in network pixels, at 320x320 without `--image-size`; with `--tile`, in tiles.

    Example: keras-spd check-data boards/annotations.json --images boards/images --image-size 320
    """
    check_folder_of(output)
    tile_sides = parsing.parse_tile(tile, overlap)
    sides = parsing.parse_image_size(image_size)
    from keras_spd.data import load_detection
    from keras_spd.data.detection.check import describe_detection, format_description
    from keras_spd.detection.image_size import check_multiples
    from keras_spd.images.tiles import check_tile, network_size
    from keras_spd.predict.files import trust_image_sizes

    cut = None if tile_sides is None else check_tile(tile_sides)
    # As `train` by default.
    size = check_multiples(sides or ((320, 320) if cut is None else network_size(cut)))
    trust_image_sizes(any_size=cut is not None)
    with _quiet():  # the report lists the problems
        found = load_detection(
            data,
            name=dataset,
            images=images,
            data_dir=data_dir,
            on_problem="skip",
            max_value="auto",
        )
    report = describe_detection(found, size, cut, 0.2 if overlap is None else overlap)
    if output is not None:
        write_json(output, report)
    typer.echo(format_description(report))
    if not report["boxes"]:
        raise ValueError(
            "There are no boxes in the data. YOLO: put `labels/` beside `images/`. COCO: the "
            "`image_id` of an annotation must be the `id` of an image."
        )
    if report["problems"]:
        raise typer.Exit(1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps problems of the data out of the log."""
    log = logging.getLogger("keras_spd.data.problems")
    former, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = former
