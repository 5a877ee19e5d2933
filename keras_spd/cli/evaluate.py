"""`keras-spd evaluate`."""

import pathlib
from typing import Annotated

import typer

from keras_spd.cli import options, parsing


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            help="COCO .json, YOLO data.yaml[:split] or folder, VOC folder; for a classifier a "
            "folder with one subfolder of images per class."
        ),
    ],
    weights: options.Weights,
    dataset: options.Dataset = None,
    images: options.Images = None,
    data_dir: options.DataDir = None,
    image_size: options.ImageSize = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    on_problem: options.OnProblem = options.Reaction.ERROR,
    confidence: Annotated[
        float | None, options.fraction("Detectors: smallest confidence; default 0.001.")
    ] = None,
    iou: Annotated[
        float | None, options.fraction("Detectors: IoU threshold of NMS; default 0.65.")
    ] = None,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror", help="Classifiers: also score the mean of each image and its mirror image."
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 16,
    output: Annotated[
        pathlib.Path, typer.Option(help="Folder for scores, detections and pictures.")
    ] = pathlib.Path("evaluation"),
) -> None:
    """Score a detector with COCO's metrics (pycocotools), or a classifier by its accuracy.

    Writes scores.json and confusion_matrix.png to the output folder; for a detector also
    detections.json (COCO results) and precision_recall.png.

    With `--tile`, larger images are predicted in tiles, as in `keras-spd predict`, and scored as a
    whole.

    Example: keras-spd evaluate boards/test.json --weights runs/boards/model.keras
    """
    size, tile_size = parsing.parse_image_size(image_size), parsing.parse_tile(tile, overlap)
    parsing.require_weights(weights)
    from keras_spd.predict.files import trust_image_sizes
    from keras_spd.predict.score_files import score_model

    trust_image_sizes(any_size=tile is not None)
    scores = score_model(
        weights,
        data,
        output,
        name=dataset,
        images=images,
        data_dir=data_dir,
        on_problem=on_problem,
        image_size=size,
        batch_size=batch_size,
        tile=tile_size,
        overlap=overlap,
        confidence_threshold=confidence,
        iou_threshold=iou,
        mirror=mirror,
    )
    typer.echo(scores.summary())
    typer.echo(f"\nScores and pictures are in {output}/")
