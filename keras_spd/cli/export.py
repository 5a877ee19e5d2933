"""`keras-spd export`."""

import pathlib
from typing import Annotated, Any

import typer

from keras_spd.cli import export_options, options, parsing
from keras_spd.files import check_folder_of


def export(
    weights: export_options.Model,
    output: Annotated[
        pathlib.Path | None,
        typer.Argument(help="File or folder to write; default: beside WEIGHTS."),
    ] = None,
    format: Annotated[
        export_options.Format, typer.Option(help="What to write.")
    ] = export_options.Format.TFLITE,
    quantize: Annotated[
        export_options.Quantization | None, typer.Option(help="tflite; default: float32.")
    ] = None,
    data: export_options.Images = None,
    dataset: options.Dataset = None,
    images: options.Images = None,
    data_dir: options.DataDir = None,
    on_problem: options.OnProblem = options.Reaction.ERROR,
    image_size: export_options.ImageSizes = None,
    batch_size: export_options.BatchSizes = None,
    fold: export_options.Fold = None,
    confidence: Annotated[
        float | None,
        options.fraction("Smallest confidence, fixed in the file; default: the model's."),
    ] = None,
    iou: Annotated[
        float | None, options.fraction("IoU threshold of NMS; default: the model's.")
    ] = None,
) -> None:
    """Write a TFLite or ONNX file or a SavedModel, and compare it with the Keras model.

    The file takes pixels from 0 to 255 and returns class probabilities, or a detector's boxes,
    confidence, classes and num_detections. The exit code is 1 if its outputs differ too much
    from the model's.

    Example: keras-spd export runs/boards/model.keras --quantize int8 --data boards/train.json
    """
    export_options.check(format, quantize, data, batch_size)
    sides = [parsing.parse_image_size(size) for size in image_size or ()] or [None]
    counts = batch_size or [1]
    if len(sides) * len(counts) > 1 and format != "tflite":
        raise ValueError("Several sizes in one file are for `--format tflite`.")
    parsing.require_weights(weights)
    check_folder_of(output)
    from keras_spd import predict
    from keras_spd.export import formats
    from keras_spd.export.images import VERIFIED, evenly, read_images
    from keras_spd.export.serving import image_sides

    model = predict.load_model(weights)
    formats.set_thresholds(model, confidence, iou)
    sizes = [image_sides(model, size) for size in sides]
    read: dict[str, Any] = {"name": dataset, "images": images, "data_dir": data_dir}
    read["on_problem"] = on_problem
    pixels = {size: read_images(model, size, data, **read) for size in sizes}
    origin = " ".join(filter(None, [dataset, data]))
    typer.echo(f"Converting {weights}: up to a minute.", err=True)
    path = formats.export_model(
        model,
        output or formats.default_path(weights, format, quantize),
        format,
        image_sizes=sizes,
        batch_sizes=counts,
        quantization=quantize,
        representative_data=pixels[sizes[0]],
        fold="auto" if fold is None else fold,
    )
    typer.echo(formats.describe_file(path, sizes))
    for size in sizes:
        compared = pixels[size][evenly(range(len(pixels[size])), VERIFIED)]
        found = formats.verify_export(path, model, compared, format, quantize)
        shown = size if len(sizes) > 1 else None
        typer.echo(formats.describe_comparison(found, model, origin, shown))
