"""`keras-spd predict`."""

import json
import pathlib
from typing import Annotated

import typer

from keras_spd.cli import options


def predict(
    images: Annotated[list[pathlib.Path], typer.Argument(help="Image files and folders.")],
    weights: Annotated[
        pathlib.Path,
        typer.Option(help="Trained detector: .keras, .tflite, or a name of `keras-spd list`."),
    ],
    image_size: options.ImageSize = None,
    confidence: Annotated[
        float | None, typer.Option(help="Smallest confidence; default: the model's, 0.25.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(help="Overlap above which a box is suppressed; default: the model's, 0.45."),
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Cut larger images into overlapping tiles of 640 or 480x640 (HxW)."
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Share of a tile that the next one covers too.")
    ] = 0.2,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    output: Annotated[
        pathlib.Path, typer.Option(help="Folder for pictures and detections.json.")
    ] = pathlib.Path("predictions"),
) -> None:
    """Find objects in images: a picture of each with its boxes, and one JSON file.

    Boxes are x1, y1, x2, y2 in pixels of the original image.

    Small objects in large images are found with `--tile`.

    Example: keras-spd predict photos/ --weights runs/boards/model.keras
    """
    from keras_spd import inference
    from keras_spd.data.images import read_image

    files = options.image_files(images)
    predictor = inference.Predictor(
        weights,
        options.parse_image_size(image_size),
        batch_size=batch_size if tile else min(batch_size, len(files)),
        tile=options.parse_image_size(tile),
        overlap=overlap,
        confidence_threshold=confidence,
        iou_threshold=iou,
    )
    output.mkdir(parents=True, exist_ok=True)
    results: list[dict] = []
    step = 1 if tile else batch_size  # one large image at a time
    for start in range(0, len(files), step):
        batch = files[start : start + step]
        pixels = [read_image(file) for file in batch]
        for file, image, found in zip(batch, pixels, predictor(pixels), strict=True):
            picture = output / f"{len(results):05d}_{file.stem}.png"
            inference.draw_detections(image, found).save(picture)
            results.append(
                {"image": str(file), "picture": picture.name, "detections": found.to_json()}
            )
            typer.echo(f"{file}: {len(found)} objects")
    (output / "detections.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    typer.echo(f"Pictures and detections.json are in {output}/")
