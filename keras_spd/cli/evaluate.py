"""`keras-spd evaluate`."""

import json
import pathlib
from typing import Annotated

import typer

from keras_spd.cli import completion, options


def evaluate(
    data: Annotated[
        str, typer.Argument(help="COCO .json, YOLO data.yaml[:split] or folder, VOC folder.")
    ],
    weights: Annotated[
        pathlib.Path,
        typer.Option(
            help="Trained detector: .keras, .tflite, or a name of `keras-spd list`.",
            autocompletion=completion.weights,
        ),
    ],
    dataset: options.Dataset = None,
    images: options.Images = None,
    data_dir: options.DataDir = None,
    image_size: options.ImageSize = None,
    on_problem: options.OnProblem = options.Reaction.ERROR,
    confidence: Annotated[float, typer.Option(help="Smallest confidence.")] = 0.001,
    iou: Annotated[float, typer.Option(help="Overlap above which a box is suppressed.")] = 0.65,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    output: Annotated[
        pathlib.Path, typer.Option(help="Folder for scores, detections and pictures.")
    ] = pathlib.Path("evaluation"),
) -> None:
    """Score a detector with COCO's metrics (pycocotools).

    The output folder gets scores.json, detections.json (COCO results), precision_recall.png and
    confusion_matrix.png.

    Example: keras-spd evaluate boards/test.json --weights runs/boards/model.keras
    """
    from keras_spd import inference, metrics

    model = inference.load_detector(weights)
    found = options.read_detection(
        data, dataset, images, data_dir, on_problem, class_names=model.info.class_names
    )
    detections, scales = inference.predict_coco(
        model,
        found,
        options.parse_image_size(image_size),
        batch_size=batch_size,
        confidence_threshold=confidence,
        iou_threshold=iou,
    )
    truth = found.to_coco()
    scores = metrics.evaluate_coco(truth, detections, scales=scales)
    output.mkdir(parents=True, exist_ok=True)
    (output / "scores.json").write_text(json.dumps(scores.to_json(), indent=2) + "\n")
    (output / "detections.json").write_text(json.dumps(detections) + "\n")
    metrics.draw_precision_recall(
        metrics.precision_recall(truth, detections), output / "precision_recall.png"
    )
    matrix, names = metrics.confusion_matrix(truth, detections)
    metrics.draw_confusion_matrix(matrix, names, output / "confusion_matrix.png")
    typer.echo(scores.summary())
    typer.echo(f"\nScores, detections and pictures are in {output}/")
