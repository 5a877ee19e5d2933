"""`keras-spd predict`."""

import pathlib
from typing import Any

import typer

from keras_spd.cli import options, parsing, predict_options


def predict(
    sources: predict_options.Sources = None,
    *,
    weights: options.Weights,
    webcam: predict_options.Webcam = None,
    image_size: options.ImageSize = None,
    confidence: predict_options.Confidence = None,
    iou: predict_options.IoU = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    batch_size: predict_options.BatchSize = 16,
    output: predict_options.Output = pathlib.Path("predictions"),
    pictures: predict_options.Pictures = True,
    labels: predict_options.Labels = True,
    annotations: predict_options.AnnotationFormat = None,
    engine: predict_options.EngineName = predict_options.Engine.LOCAL,
    address: predict_options.Address = None,
    workers: predict_options.Workers = None,
) -> None:
    """Find objects in images and videos, or classify them.

    Writes an annotated picture of each image, an annotated .mp4 of each video, detections.json and
    detections.csv; for a classifier, the five most probable classes in classes.json and
    classes.csv. Boxes are x1, y1, x2, y2 in pixels of the original image. Of boxes of
    different classes with an IoU above 0.7, the most confident one is reported; `keras-spd
    evaluate` counts all of them.

    Use `--tile` to find small objects in large images. If a file cannot be read, it is named, the
    others are predicted, and the exit code is 1.

    `--engine ray` predicts images with Ray Data, on a cluster with `--address`. It writes Parquet
    files to a subfolder of the output, and no pictures. Images that already have results are
    skipped.

    Example: keras-spd predict photos/ street.mp4 --weights runs/boards/model.keras
    """
    if not sources and webcam is None:
        raise ValueError("Give images, videos or folders to predict, or `--webcam 0`.")
    if engine != "ray" and (address or workers):
        raise ValueError("`--address` and `--workers` are for `--engine ray`.")
    if engine == "ray" and annotations:
        raise ValueError("`--engine ray` writes Parquet files, not `--annotations`.")
    sides, tile_sides = parsing.parse_image_size(image_size), parsing.parse_tile(tile, overlap)
    parsing.require_weights(weights)
    from keras_spd import predict
    from keras_spd.data.problems import plural
    from keras_spd.images.video import is_video
    from keras_spd.predict.files import trust_image_sizes

    trust_image_sizes(any_size=tile is not None)
    find: Any = predict.find_sources
    if engine == "ray":
        from keras_spd.apps import object_stores

        find = object_stores.find_images
    files = find(sources or [], output)
    has_video = webcam is not None or any(map(is_video, files))
    if tile is None and not has_video:
        batch_size = min(batch_size, len(files))
    settings: dict[str, Any] = {"image_size": sides, "batch_size": batch_size, "tile": tile_sides}
    settings |= {"overlap": overlap, "confidence_threshold": confidence, "iou_threshold": iou}
    if engine == "ray":
        if has_video:
            raise ValueError("`--engine ray` predicts images, not videos or webcams.")
        from keras_spd.apps.ray import predict_with_ray

        settings |= {"address": address, "workers": workers}
        results = predict_with_ray(weights, files, output, **settings)
        typer.echo(results.summary())
        problems = f"{plural(results.problems, 'image')} could not be read: see the column `error`."
        failed = results.problems
    else:
        predictor = predict.load_predictor(weights, **settings)
        written: Any = {"pictures": pictures, "labels": labels, "annotations": annotations}
        failed = predict.predict_files(
            predictor, files, output, webcam=webcam, say=typer.echo, **written
        )
        height, width = predictor.image_size
        what = "Pictures, JSON and CSV" if pictures else "JSON and CSV"
        how = "at" if tile is None else "in tiles and as a whole, each at"
        typer.echo(f"Images were predicted {how} {height}x{width}. {what} are in {output}/")
        count = plural(len(files) + (webcam is not None), "source")
        problems = f"{failed} of {count} could not be read to the end."
    if failed:
        typer.echo(problems, err=True)
        raise typer.Exit(1)
