"""`keras-spd explain`."""

import pathlib
from typing import Annotated

import typer

from keras_spd.cli import parsing
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
    output: Annotated[pathlib.Path, typer.Option(help="Folder for the pictures.")] = pathlib.Path(
        "explanations"
    ),
) -> None:
    """Draw the feature maps of a network, Grad-CAM of a classifier, confidence of a detector.

    Grad-CAM explains the class that each model predicts; red regions support it most. A detector's
    confidence is drawn for each level, before NMS.

    Example: keras-spd explain photos/ --weights spd.keras --beside strided.keras
    """
    parsing.require_weights(weights)
    from keras_spd import explain, predict
    from keras_spd.applications import Detector
    from keras_spd.images.video import is_video

    files = [file for file in predict.find_sources(images) if not is_video(file)]
    paths = [weights] if beside is None else [weights, beside]
    models = predict.load_models(paths)
    output.mkdir(parents=True, exist_ok=True)
    classifiers = {name: model for name, model in models.items() if explain.is_classifier(model)}
    detectors = {name: model for name, model in models.items() if isinstance(model, Detector)}
    for name, file in zip(predict.name_pictures(files), files, strict=True):
        pictures = {"features": explain.draw_feature_maps(models, file)}
        if classifiers:
            pictures["grad_cam"] = explain.draw_grad_cam(classifiers, file)
        if detectors:
            pictures["confidence"] = explain.draw_confidence_map(detectors, file)
        for kind, picture in pictures.items():
            path = output / f"{name}_{kind}.png"
            with whole_file(path) as unfinished:
                picture.save(unfinished)
            typer.echo(path)
