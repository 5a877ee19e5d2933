"""`keras-spd predict`."""

import enum
import pathlib
import warnings
from typing import Annotated, Any

import typer

from keras_spd.cli import completion, options


class Engine(enum.StrEnum):
    """What runs the prediction."""

    LOCAL = "local"
    RAY = "ray"


def predict(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCES",
            help="Images, videos, folders, and globs in quotes: 'photos/**/*.jpg'.",
        ),
    ] = None,
    *,
    weights: Annotated[
        pathlib.Path,
        typer.Option(
            help="Trained model: .keras, .tflite, or a name from `keras-spd list`.",
            autocompletion=completion.weights,
        ),
    ],
    webcam: Annotated[
        int | None, typer.Option(min=0, help="Camera, 0 for the first; Ctrl-C ends it.")
    ] = None,
    image_size: options.ImageSize = None,
    confidence: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Smallest confidence; default: the model's, 0.25."),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="IoU threshold of NMS; default: the model's, 0.45."),
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Cut larger images into overlapping tiles of 640 or 480x640 (HxW). The network "
            "sees tiles at that size, or at `--image-size`.",
        ),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.5, help="Fraction of a tile that the next tile overlaps; default 0.2."
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images, frames or tiles in a batch.")
    ] = 16,
    output: Annotated[
        pathlib.Path, typer.Option(help="Folder for pictures, videos, JSON and CSV.")
    ] = pathlib.Path("predictions"),
    engine: Annotated[
        Engine, typer.Option(help="ray: images in many processes, results as Parquet.")
    ] = Engine.LOCAL,
    address: Annotated[
        str | None, typer.Option(help="ray: the cluster's address; default: this machine.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="ray: processes; default: one for each GPU or four CPUs."),
    ] = None,
) -> None:
    """Find objects in images and videos, or classify them.

    Writes an annotated picture of each image, an annotated .mp4 of each video, detections.json and
    detections.csv; for a classifier, the five most probable classes in classes.json and
    classes.csv. Boxes are x1, y1, x2, y2 in pixels of the original image. Each object is reported
    once, with its most confident class; `keras-spd evaluate` counts every confident class.

    Use `--tile` to find small objects in large images. If a file cannot be read, it is named, the
    others are predicted, and the exit code is 1.

    `--engine ray` predicts images with Ray Data, on a cluster with `--address`. It writes Parquet
    files to a subfolder of the output, and no pictures. Images that already have results are
    skipped.

    Example: keras-spd predict photos/ street.mp4 --weights runs/boards/model.keras
    """
    if not sources and webcam is None:
        raise ValueError("Give images, videos or folders to predict, or `--webcam 0`.")
    if overlap is not None and tile is None:
        raise ValueError("`--overlap` is the overlap of tiles and needs `--tile`.")
    if engine is not Engine.RAY and (address or workers):
        raise ValueError("`--address` and `--workers` are for `--engine ray`.")
    sides, tile_sides = options.parse_image_size(image_size), options.parse_image_size(tile)
    options.require_weights(weights)
    from PIL import Image

    from keras_spd import predict
    from keras_spd.images.video import is_video

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if tile is not None:
        Image.MAX_IMAGE_PIXELS = None  # tiles are for large images
    files = predict.find_sources(sources or [])
    if webcam is None and tile is None and not any(map(is_video, files)):
        batch_size = min(batch_size, len(files))
    settings: dict[str, Any] = {
        "image_size": sides,
        "batch_size": batch_size,
        "tile": tile_sides,
        "overlap": overlap,
        "confidence_threshold": confidence,
        "iou_threshold": iou,
    }
    if engine is Engine.RAY:
        _predict_with_ray(weights, files, output, webcam, settings, address, workers)
        return
    predictor = predict.load_predictor(weights, **settings)
    problems = predict.predict_files(predictor, files, output, webcam=webcam, say=typer.echo)
    typer.echo(f"Pictures, JSON and CSV are in {output}/")
    if problems:
        typer.echo(f"{problems} of {len(files)} files could not be read to the end.", err=True)
        raise typer.Exit(1)


def _predict_with_ray(
    weights: pathlib.Path,
    files: list[pathlib.Path],
    output: pathlib.Path,
    webcam: int | None,
    settings: dict[str, Any],
    address: str | None,
    workers: int | None,
) -> None:
    from keras_spd.apps.ray import predict_with_ray
    from keras_spd.images.video import is_video

    if webcam is not None or any(map(is_video, files)):
        raise ValueError("`--engine ray` predicts images, not videos or webcams.")
    results = predict_with_ray(weights, files, output, address=address, workers=workers, **settings)
    typer.echo(
        f"{results.predicted} images predicted, {results.known} skipped (already done). "
        f"The Parquet files are in {results.folder}/"
    )
    if results.problems:
        typer.echo(
            f"{results.problems} images could not be read: see the column `error`.", err=True
        )
        raise typer.Exit(1)
