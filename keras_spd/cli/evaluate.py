"""`keras-spd evaluate`."""

import pathlib
from typing import Annotated

import typer

from keras_spd.cli import completion, options


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            help="COCO .json, YOLO data.yaml[:split] or folder, VOC folder; for a classifier a "
            "folder with a subfolder of images for each class."
        ),
    ],
    weights: Annotated[
        pathlib.Path,
        typer.Option(
            help="Trained model: .keras, .tflite, or a name from `keras-spd list`.",
            autocompletion=completion.weights,
        ),
    ],
    dataset: options.Dataset = None,
    images: options.Images = None,
    data_dir: options.DataDir = None,
    image_size: options.ImageSize = None,
    on_problem: options.OnProblem = options.Reaction.ERROR,
    confidence: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Detectors: smallest confidence; default 0.001."),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Detectors: IoU threshold of NMS; default 0.65."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    output: Annotated[
        pathlib.Path, typer.Option(help="Folder for scores, detections and pictures.")
    ] = pathlib.Path("evaluation"),
) -> None:
    """Score a detector with COCO's metrics (pycocotools), or a classifier by its accuracy.

    Writes scores.json and confusion_matrix.png to the output folder; for a detector also
    detections.json (COCO results) and precision_recall.png.

    Example: keras-spd evaluate boards/test.json --weights runs/boards/model.keras
    """
    size = options.parse_image_size(image_size)
    options.require_weights(weights)
    from keras_spd import predict
    from keras_spd.data import load_classification
    from keras_spd.data.classification.folder import NoClassFoldersError
    from keras_spd.predict.score_files import score_classifier, score_detector

    predictor = predict.load_predictor(
        weights,
        size,
        batch_size=batch_size,
        confidence_threshold=confidence,
        iou_threshold=iou,
    )
    output.mkdir(parents=True, exist_ok=True)
    if isinstance(predictor, predict.Classifier):
        try:
            read = load_classification(
                data,
                name=dataset,
                data_dir=data_dir,
                image_size=predictor.image_size,
                class_names=predictor.info.class_names,
                on_problem=on_problem,
                max_value=predictor.max_value,
                resize=predictor.info.preprocessing.resize,
            )
        except NoClassFoldersError as error:
            raise ValueError(f"{weights} is a classifier. {error}") from None
        scores = score_classifier(predictor, read, output)
    else:
        model = predictor.model
        found = options.read_detection(data, dataset, images, data_dir, on_problem, model.info)
        scores = score_detector(
            model,
            found,
            output,
            image_size=size,
            batch_size=batch_size,
            confidence_threshold=0.001 if confidence is None else confidence,
            iou_threshold=0.65 if iou is None else iou,
        )
    typer.echo(scores.summary())
    typer.echo(f"\nScores and pictures are in {output}/")
