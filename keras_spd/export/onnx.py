"""Exports Keras models as ONNX files."""

import json
import os
import pathlib
import warnings
from typing import Literal

import keras
import numpy as np

from keras_spd.export import serving
from keras_spd.export.folding import folded
from keras_spd.export.onnx_runtime import RECORD, ONNXFile
from keras_spd.export.verify import Comparison, verify
from keras_spd.files import check_folder_of, whole_file
from keras_spd.image_model import known_preprocessing


def export_onnx(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 1,
    fold: bool | Literal["auto"] = "auto",
) -> pathlib.Path:
    """Writes an ONNX file with the inputs and outputs of a float32 `export_tflite` file.

    Args:
        model: As in `export_tflite`.
        path: Path of the `.onnx` file, which appears once it is complete.
        image_size: `(height, width)` of the images in pixels; defaults as in `export_tflite`.
        batch_size: Integer.
        fold: Whether to fold the network first (`keras_spd.fold`), which does not change its
            outputs. `"auto"` folds only where it was measured to help; ONNX files are folded.

    Returns:
        The path.

    Raises:
        ImportError: If TensorFlow or `tf2onnx` is not installed.
        ValueError: If an argument is not as described, `model.info` does not define how images
            are normalised, or Keras does not run on TensorFlow.
        FileNotFoundError: If the folder of `path` does not exist.

    Example:

    >>> keras_spd.export.export_onnx(model, "model.onnx")
    """
    from keras_spd.export.tflite import tensorflow

    path = pathlib.Path(path)
    check_folder_of(path)
    tensorflow("ONNX files")
    try:
        import onnx
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise ImportError('ONNX files need `pip install "keras_spd[onnx]"`.') from error
    if path.suffix != ".onnx":
        raise ValueError(f"The name of an ONNX file ends in `.onnx`. Received: {path}.")
    known_preprocessing(model)  # or an error
    model = folded(model, fold, "ONNX")
    serve = serving.serving_model(model, image_size, batch_size)
    signature = [keras.InputSpec(shape=serve.input_shape, dtype="float32", name="images")]
    with whole_file(path) as unfinished, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*np.object", category=FutureWarning)
        serve.export(str(unfinished), format="onnx", input_signature=signature, verbose=False)
        content = onnx.load(unfinished)
        record = json.dumps(serving.describe(model, serve.input_shape[1:3]))
        content.metadata_props.add(key=RECORD, value=record)
        onnx.save(content, unfinished)
    return path


def verify_onnx(
    path: str | os.PathLike,
    model: keras.Model,
    images: np.ndarray,
    *,
    tolerance: float | None = None,
    agreement: float | None = None,
) -> Comparison:
    """Runs an ONNX file and its Keras model on the same images, and compares the outputs.

    Args:
        path: Path of the ONNX file.
        model: The Keras model it was exported from.
        images, tolerance, agreement: As in `verify_tflite`.

    Returns:
        `Comparison`.

    Raises:
        ImportError: If ONNX Runtime is not installed.
        ValueError: If the outputs differ by more than accepted.

    Example:

    >>> keras_spd.export.verify_onnx("model.onnx", model, images).max_difference
    """
    return verify(path, model, images, ONNXFile(path), tolerance, agreement)
