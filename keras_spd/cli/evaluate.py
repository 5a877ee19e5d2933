"""`keras-spd evaluate`."""

import pathlib
from typing import Annotated

import typer

from keras_spd.cli import completion, options
from keras_spd.files import write_json


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            help="COCO .json, YOLO data.yaml[:split] or folder, VOC folder; for a classifier a "
            "folder with a folder of images for each class."
        ),
    ],
    weights: Annotated[
        pathlib.Path,
        typer.Option(
            help="Trained model: .keras, .tflite, or a name of `keras-spd list`.",
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
        typer.Option(
            min=0, max=1, help="Detectors: IoU above which a box is suppressed; default 0.65."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    output: Annotated[
        pathlib.Path, typer.Option(help="Folder for scores, detections and pictures.")
    ] = pathlib.Path("evaluation"),
) -> None:
    """Score a detector with COCO's metrics (pycocotools), or a classifier by its accuracy.

    The output folder gets scores.json and confusion_matrix.png, for a detector detections.json
    (COCO results) and precision_recall.png too.

    Example: keras-spd evaluate boards/test.json --weights runs/boards/model.keras
    """
    size = options.parse_image_size(image_size)
    options.require_weights(weights)
    from keras_spd import predict
    from keras_spd.data.classification.folder import NoClassFoldersError

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
            scores = _score_classifier(predictor, data, dataset, data_dir, on_problem, output)
        except NoClassFoldersError as error:
            raise ValueError(f"{weights} is a classifier. {error}") from None
    else:
        model = predictor.model
        found = options.read_detection(data, dataset, images, data_dir, on_problem, model.info)
        thresholds = {
            "confidence_threshold": 0.001 if confidence is None else confidence,
            "iou_threshold": 0.65 if iou is None else iou,
        }
        scores = _score_detector(model, found, size, batch_size, thresholds, output)
    write_json(output / "scores.json", scores.to_json())
    typer.echo(scores.summary())
    typer.echo(f"\nScores and pictures are in {output}/")


def _score_detector(model, found, image_size, batch_size, thresholds, output):
    from keras_spd import metrics, predict
    from keras_spd.data.detection.dataset import require_boxes

    require_boxes(found, "data to score on")
    detections, scales = predict.predict_coco(
        model, found, image_size, batch_size=batch_size, **thresholds
    )
    truth = found.to_coco()
    write_json(output / "detections.json", detections, indent=None)
    metrics.draw_precision_recall(
        metrics.precision_recall(truth, detections), output / "precision_recall.png"
    )
    at = {"confidence": 0.25, "iou": 0.45}
    matrix, names = metrics.confusion_matrix(truth, detections, **at)
    metrics.draw_confusion_matrix(matrix, names, output / "confusion_matrix.png", **at)
    return metrics.evaluate_coco(truth, detections, scales=scales)


def _score_classifier(classifier, data, dataset, data_dir, on_problem, output):
    import numpy as np

    from keras_spd import metrics
    from keras_spd.data import load_classification

    names, size = classifier.info.class_names, classifier.image_size
    read = load_classification(
        data,
        name=dataset,
        data_dir=data_dir,
        image_size=size,
        class_names=names,
        on_problem=on_problem,
        max_value=classifier.max_value,
    )
    if names is not None and tuple(names) != read.class_names:
        raise ValueError(f"The model has the classes {names}, the data {read.class_names}.")
    labels, ranked = [], []
    for images, batch_labels in read.batches(classifier.batch_size):
        pixels = [np.asarray(image, "uint8") for image in images]
        labels.append(np.asarray(batch_labels))
        ranked += [found.classes for found in classifier(pixels)]
    scores = metrics.evaluate_classification(np.concatenate(labels), ranked, read.class_names)
    metrics.draw_confusion_matrix(scores.matrix, read.class_names, output / "confusion_matrix.png")
    return scores
