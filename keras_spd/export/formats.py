"""Writes and verifies exported files of all formats."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import keras

from keras_spd.detection.detector import Detector
from keras_spd.export.onnx import export_onnx, verify_onnx
from keras_spd.export.saved_model import export_saved_model, verify_saved_model
from keras_spd.export.tflite import export_tflite
from keras_spd.export.verify import Comparison, accepted, verify_tflite
from keras_spd.typing import Array, Path

_SUFFIXES = (".keras", ".pt", ".pth", ".safetensors")  # of models
_VERIFIERS = {"tflite": verify_tflite, "saved_model": verify_saved_model, "onnx": verify_onnx}


def default_path(weights: Path, format: str, quantization: str | None) -> pathlib.Path:
    """Returns the path of an exported file, next to its model, such as `model_int8.tflite`."""
    weights = pathlib.Path(weights)
    if str(weights).startswith("hf:"):  # on the Hugging Face Hub
        weights = pathlib.Path(weights.name)
    name = weights.stem if weights.suffix in _SUFFIXES else weights.name  # not of `yolo-v1.5`
    suffixes = {"saved_model": "", "onnx": ".onnx"}
    suffix = suffixes.get(format, f"_{quantization}.tflite" if quantization else ".tflite")
    return weights.with_name(name + suffix)


def set_thresholds(model: keras.Model, confidence: float | None, iou: float | None) -> None:
    """Changes the thresholds of a detector, which are fixed in an exported file.

    Args:
        model: `Detector`, or another model if both thresholds are `None`.
        confidence, iou: Fields of `keras_spd.detection.Decoder`; `None` for the model's.

    Raises:
        ValueError: If the model is not a detector.
    """
    thresholds = {"confidence_threshold": confidence, "iou_threshold": iou}
    given: dict[str, Any] = {key: value for key, value in thresholds.items() if value is not None}
    if isinstance(model, Detector):
        model.decoder = dataclasses.replace(model.decoder, **given)
    elif given:
        raise ValueError(
            f"`--confidence` and `--iou` are for detectors. `{model.name}` is not a detector."
        )


def export_model(
    model: keras.Model,
    path: Path,
    format: str,
    *,
    image_sizes: Sequence[tuple[int, int]],
    batch_sizes: Sequence[int] = (1,),
    quantization: str | None = None,
    representative_data: Iterable[Any] | None = None,
    fold: bool | Literal["auto"] = "auto",
) -> pathlib.Path:
    """Writes a file of any format.

    Args:
        model, path, fold: As in `export_tflite`.
        format: `"tflite"`, `"saved_model"` or `"onnx"`.
        image_sizes: List of `(height, width)`: several only for TFLite.
        batch_sizes: List of integers: several only for TFLite; a SavedModel takes any.
        quantization, representative_data: As in `export_tflite`; only for TFLite.

    Returns:
        The path.
    """
    if format == "saved_model":
        return export_saved_model(model, path, image_size=image_sizes[0], fold=fold)
    if format == "onnx":
        size, count = image_sizes[0], batch_sizes[0]
        return export_onnx(model, path, image_size=size, batch_size=count, fold=fold)
    if format != "tflite":
        raise ValueError(f"`format` must be tflite, onnx or saved_model. Received: {format!r}.")
    return export_tflite(
        model,
        path,
        quantization=quantization,
        representative_data=representative_data,
        image_size=list(image_sizes),
        batch_size=list(batch_sizes),
        fold=fold,
    )


def verify_export(
    path: Path,
    model: keras.Model,
    images: Array,
    format: str,
    quantization: str | None = None,
) -> Comparison:
    """Runs an exported file and its Keras model on the same images.

    Args:
        path, model, images: As in `verify_tflite`.
        format, quantization: As in `export_model`; 8-bit files may differ by more.

    Returns:
        `Comparison`.

    Raises:
        ValueError: If they differ by more than is accepted for this quantisation.
    """
    tolerance, agreement = accepted(quantization, isinstance(model, Detector))
    verify = _VERIFIERS[format]
    return verify(path, model, images, tolerance=tolerance, agreement=agreement)


def describe_file(path: pathlib.Path, image_sizes: Sequence[tuple[int, int]]) -> str:
    """Returns a line of text: name, size and the images that the file takes."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    shapes = " or ".join(f"{height}x{width}" for height, width in image_sizes)
    name = f"{path}/" if path.is_dir() else str(path)
    return f"{name}: {size / 1e6:.1f} MB, images of {shapes}"


def describe_comparison(
    found: Comparison,
    model: keras.Model,
    source: str | None,
    size: tuple[int, int] | None = None,
) -> str:
    """Returns a line of text: how close a file is to its model.

    Args:
        found: What `verify_export` returned.
        model: The model.
        source: Name of the images that both were run on; empty or `None` for noise.
        size: `(height, width)` of these images, if the file takes several sizes.
    """
    kind = "tiles" if isinstance(model, Detector) and model.info.tile else "images"
    images = f"{kind} of {source}" if source else "noise images (pass real ones with `--data`)"
    images = f"{found.images} {images}" + (f", {size[0]}x{size[1]}" if size else "")
    if not found.compared:
        return f"Not compared with the Keras model, because neither finds anything in {images}."
    if isinstance(model, Detector):
        same = "boxes are found by both"
        differ = f"their coordinates differ by at most {found.max_difference:.3g} network pixels"
    else:
        same = "images get the same class"
        differ = f"probabilities differ by at most {found.max_difference:.2g}"
    return (
        f"Compared with the Keras model on {images}: {found.agreement:.1%} of the {same}, "
        f"and {differ}."
    )
