"""`keras-spd explain`."""

import pathlib
from typing import Annotated, Any

import typer

from keras_spd.cli import options, parsing
from keras_spd.files import whole_file


def explain(
    images: Annotated[list[pathlib.Path], typer.Argument(help="Image files and folders.")],
    weights: Annotated[
        pathlib.Path,
        typer.Option(help="Trained model: .keras or .pt, or a name from `keras-spd list`."),
    ],
    beside: Annotated[
        pathlib.Path | None, typer.Option(help="A second model, drawn beside the first.")
    ] = None,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Detectors: size of tiles, such as 640 or 480x640 (HxW)."
        ),
    ] = None,
    overlap: options.Overlap = None,
    output: Annotated[pathlib.Path, typer.Option(help="Folder for the pictures.")] = pathlib.Path(
        "explanations"
    ),
) -> None:
    """Draw a network's feature maps, with a classifier's Grad-CAM or a detector's confidence.

    Grad-CAM explains the class that each model predicts; red regions support it most. A detector's
    confidence is drawn for each level, before NMS. With `--tile`, it is computed in tiles and drawn
    for the whole image, and no feature maps of detectors are drawn.

    Example: keras-spd explain photos/ --weights spd.keras --beside strided.keras
    """
    sides = parsing.parse_tile(tile, overlap)
    parsing.require_weights(weights)
    from keras_spd import explain, predict
    from keras_spd.applications import Detector
    from keras_spd.images.video import is_video
    from keras_spd.predict.files import trust_image_sizes

    trust_image_sizes(any_size=sides is not None)
    files = [file for file in predict.find_sources(images, output) if not is_video(file)]
    paths = [weights] if beside is None else [weights, beside]
    if not files:
        raise ValueError(
            "`keras-spd explain` draws images. Received: only videos. Pass image files."
        )
    models = predict.load_models(paths)
    classifiers = {name: model for name, model in models.items() if explain.is_classifier(model)}
    detectors = {name: model for name, model in models.items() if isinstance(model, Detector)}
    if sides is not None and not detectors:
        raise ValueError("`--tile` is for detectors: a classifier looks at whole images.")
    whole = {name: model for name, model in models.items() if sides is None or name in classifiers}
    tiling: Any = {"tile": sides, "overlap": 0.2 if overlap is None else overlap}
    output.mkdir(parents=True, exist_ok=True)
    for name, file in zip(predict.name_pictures(files), files, strict=True):
        pictures = {}
        if whole:
            pictures["features"] = explain.draw_feature_maps(whole, file)
        if classifiers:
            pictures["grad_cam"] = explain.draw_grad_cam(classifiers, file)
        if detectors:
            pictures["confidence"] = explain.draw_confidence_map(detectors, file, **tiling)
        for kind, picture in pictures.items():
            path = output / f"{name}_{kind}.png"
            with whole_file(path) as unfinished:
                picture.save(unfinished)
            typer.echo(path)
