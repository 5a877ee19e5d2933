"""`keras-spd export`."""

import math
import pathlib
from typing import Annotated

import typer

from keras_spd.cli import options

_CALIBRATION, _VERIFICATION = 200, 32  # images
# Largest difference in pixels and smallest agreement, by quantization.
_ACCEPTED = {
    None: (0.5, 0.99),
    "float16": (2.0, 0.97),
    "dynamic": (math.inf, 0.8),
    "int8": (math.inf, 0.8),
}


def export(
    weights: Annotated[pathlib.Path, typer.Argument(help="Trained detector, a .keras file.")],
    output: Annotated[
        pathlib.Path | None, typer.Argument(help="File to write, .tflite; default: beside WEIGHTS.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="float16, dynamic or int8; default: float32.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Training images for int8, and to compare on: as `train --train` takes."),
    ] = None,
    dataset: options.Dataset = None,
    images: options.Images = None,
    data_dir: options.DataDir = None,
    image_size: options.ImageSize = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images the file takes at once.")] = 1,
    confidence: Annotated[
        float | None, typer.Option(help="Smallest confidence, fixed in the file; default 0.25.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(help="Overlap above which a box is suppressed; default 0.45."),
    ] = None,
) -> None:
    """Write a TFLite file with the boxes inside, and compare it with the Keras model.

    The file takes pixels from 0 to 255 and returns boxes, confidence, classes and
    num_detections. The exit code is 1 if it computes something else than the model.

    Example: keras-spd export runs/boards/model.keras --quantize int8 --data boards/train.json
    """
    import dataclasses

    import numpy as np

    from keras_spd import export as exporting
    from keras_spd import inference
    from keras_spd.data import letterbox
    from keras_spd.inference.predictor import standardize_image_size

    model = inference.load_detector(weights)
    given = {"confidence_threshold": confidence, "iou_threshold": iou}
    given = {name: value for name, value in given.items() if value is not None}
    model.decoder = dataclasses.replace(model.decoder, **given)
    size = standardize_image_size(options.parse_image_size(image_size), model)
    if quantize == "int8" and data is None:
        raise ValueError("`--quantize int8` needs `--data`: images like those it will see.")
    if data is None:
        pixels = np.random.default_rng(0).uniform(0, 255, (_VERIFICATION, *size, 3))
        source = "images of noise; give real ones with `--data`"
    else:
        found = options.read_detection(data, dataset, images, data_dir, "error")
        step = max(found.num_images // _CALIBRATION, 1)
        chosen = dataclasses.replace(found, images=found.images[::step][:_CALIBRATION])
        pixels = np.concatenate([letterbox(image.read(), size)[0][None] for image in chosen.images])
        source = f"images of {data}"
    suffix = f"_{quantize}.tflite" if quantize else ".tflite"
    output = output or weights.with_name(weights.stem + suffix)
    exporting.export_tflite(
        model,
        output,
        quantization=quantize,
        representative_data=pixels,
        image_size=size,
        batch_size=batch_size,
    )
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, images of {size[0]}x{size[1]}")
    tolerance, agreement = _ACCEPTED[quantize]
    comparison = exporting.verify_tflite(
        output, model, pixels[:_VERIFICATION], tolerance=tolerance, agreement=agreement
    )
    typer.echo(
        f"Beside the Keras model, on {comparison.images} {source}: {comparison.agreement:.1%} of "
        "the boxes are the same, and their coordinates differ by at most "
        f"{comparison.max_difference:.3g} pixels."
    )
