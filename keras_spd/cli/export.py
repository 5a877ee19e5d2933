"""`keras-spd export`."""

import enum
import pathlib
from typing import Annotated, Any

import typer

from keras_spd.cli import completion, options

_VERIFICATION = 32  # images


class Format(enum.StrEnum):
    """Format of the exported file."""

    TFLITE = "tflite"
    SAVED_MODEL = "saved_model"
    ONNX = "onnx"


class Quantization(enum.StrEnum):
    """How many bits a TFLite file computes with."""

    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INT8 = "int8"


def export(
    weights: Annotated[
        pathlib.Path,
        typer.Argument(
            help="Trained model: a .keras file, or a name from `keras-spd list`.",
            autocompletion=completion.weights,
        ),
    ],
    output: Annotated[
        pathlib.Path | None,
        typer.Argument(help="File or folder to write; default: beside WEIGHTS."),
    ] = None,
    format: Annotated[Format, typer.Option(help="What to write.")] = Format.TFLITE,
    quantize: Annotated[Quantization | None, typer.Option(help="tflite; default: float32.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images to calibrate int8 and to compare on: data as in `train --train`; for a "
            "classifier a folder of images, or a split of `--dataset`."
        ),
    ] = None,
    dataset: options.Dataset = None,
    images: options.Images = None,
    data_dir: options.DataDir = None,
    on_problem: options.OnProblem = options.Reaction.ERROR,
    image_size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZE",
            help="Input of the network, such as 640 or 480x640 (HxW). For tflite, repeat it to "
            "write a signature for each size.",
        ),
    ] = None,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="tflite, onnx: batch size; default 1. For tflite, repeat it to write a signature "
            "for each size.",
        ),
    ] = None,
    fold: Annotated[
        bool | None,
        typer.Option(
            "--fold/--no-fold",
            help="Fold the network first; default: in SavedModels and ONNX files, where it helps.",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Smallest confidence, fixed in the file; default 0.25."),
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="IoU threshold of NMS; default 0.45."),
    ] = None,
) -> None:
    """Write a TFLite or ONNX file or a SavedModel, and compare it with the Keras model.

    The file takes pixels from 0 to 255 and returns class probabilities, or a detector's boxes,
    confidence, classes and num_detections. The exit code is 1 if its outputs differ from the
    model's.

    Example: keras-spd export runs/boards/model.keras --quantize int8 --data boards/train.json
    """
    if quantize == "int8" and data is None:
        raise ValueError("`--quantize int8` needs `--data`, typical images to calibrate with.")
    if quantize and format is not Format.TFLITE:
        raise ValueError("`--quantize` is for `--format tflite`.")
    sides = [options.parse_image_size(size) for size in image_size or ()] or [None]
    counts = batch_size or [1]
    if len(sides) * len(counts) > 1 and format is not Format.TFLITE:
        raise ValueError("Several sizes in one file are for `--format tflite`.")
    options.require_weights(weights)
    import dataclasses

    import numpy as np

    from keras_spd import export as exporting
    from keras_spd import predict
    from keras_spd.detection.detector import Detector, standardize_image_size
    from keras_spd.export.images import read_classifier_images, read_detector_images
    from keras_spd.export.serving import image_sides
    from keras_spd.export.verify import accepted
    from keras_spd.image_model import known_preprocessing

    model = predict.load_model(weights)
    preprocessing = known_preprocessing(model)
    is_detector = isinstance(model, Detector)
    if is_detector:
        given = {"confidence_threshold": confidence, "iou_threshold": iou}
        given = {name: value for name, value in given.items() if value is not None}
        model.decoder = dataclasses.replace(model.decoder, **given)
        sizes = [standardize_image_size(size, model) for size in sides]
    elif confidence is not None or iou is not None:
        raise ValueError(
            f"`--confidence` and `--iou` are for detectors. {weights} is not a detector."
        )
    else:
        sizes = [image_sides(model, size) for size in sides]

    if data is None:
        rng = np.random.default_rng(0)
        pixels = {size: rng.uniform(0, 255, (_VERIFICATION, *size, 3)) for size in sizes}
        source = "noise images; pass real ones with `--data`"
    else:
        read: Any = read_detector_images if is_detector else read_classifier_images
        settings: dict[str, Any] = {"name": dataset, "on_problem": on_problem}
        settings["data_dir"] = str(data_dir) if data_dir else None
        if is_detector:
            settings |= {"images": images, "max_value": preprocessing.max_value}
        else:
            settings["preprocessing"] = preprocessing
        pixels = {size: read(data, size, **settings) for size in sizes}
        source = f"images of {dataset + ' ' if dataset else ''}{data}"
    typer.echo(f"Converting {weights}: up to a minute.", err=True)
    folding: Any = "auto" if fold is None else fold
    if format is Format.SAVED_MODEL:
        output = output or weights.with_suffix("")
        exporting.export_saved_model(model, output, image_size=sizes[0], fold=folding)
        verify, written = exporting.verify_saved_model, f"{output}/"
        bytes_written = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    elif format is Format.ONNX:
        output = output or weights.with_suffix(".onnx")
        exporting.export_onnx(
            model, output, image_size=sizes[0], batch_size=counts[0], fold=folding
        )
        verify, written, bytes_written = exporting.verify_onnx, str(output), output.stat().st_size
    else:
        suffix = f"_{quantize}.tflite" if quantize else ".tflite"
        output = output or weights.with_name(weights.stem + suffix)
        exporting.export_tflite(
            model,
            output,
            quantization=quantize,
            representative_data=pixels[sizes[0]],
            image_size=sizes,
            batch_size=counts,
            fold=folding,
        )
        verify, written, bytes_written = exporting.verify_tflite, str(output), output.stat().st_size
    shapes = " or ".join(f"{height}x{width}" for height, width in sizes)
    typer.echo(f"{written}: {bytes_written / 1e6:.1f} MB, images of {shapes}")
    tolerance, agreement = accepted(quantize, is_detector)
    same, differ = (
        ("boxes are the same", "their coordinates differ by at most {:.3g} pixels")
        if is_detector
        else ("images get the same class", "probabilities differ by at most {:.2g}")
    )
    for size in sizes:
        compared = pixels[size][:_VERIFICATION]
        found = verify(output, model, compared, tolerance=tolerance, agreement=agreement)
        shown = f"{found.images} {source}"
        if len(sizes) > 1:
            shown += f", {size[0]}x{size[1]}"
        if found.compared:
            typer.echo(
                f"Compared with the Keras model on {shown}: {found.agreement:.1%} of the {same}, "
                f"and {differ.format(found.max_difference)}."
            )
        else:
            typer.echo(
                f"Not compared with the Keras model, because neither finds anything in {shown}."
            )
