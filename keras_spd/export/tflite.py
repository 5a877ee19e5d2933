"""Exports Keras models as TFLite files that only use builtin operators."""

import pathlib
import re
import tempfile
import warnings
from collections.abc import Iterable
from typing import Any

import keras

from keras_spd.detection.detector import Detector
from keras_spd.export import serving
from keras_spd.export.calibration import (
    calibration_batches,
    check_calibration,
    resize_calibration,
)
from keras_spd.export.detections import LAYER
from keras_spd.export.folding import folded
from keras_spd.export.metadata import add_metadata, foreign_operators
from keras_spd.export.rewrite import shorten_float_kernels, take_pixels
from keras_spd.export.signatures import merge_signatures
from keras_spd.files import whole_file
from keras_spd.image_model import known_preprocessing
from keras_spd.typing import Array, Path

QUANTIZATIONS = (None, "float16", "dynamic", "int8")
# Layers of a detector that stay in float32: coordinates and scores share a tensor and therefore
# an 8-bit step size, which is too coarse for small boxes.
_IN_FLOAT = (f"/{LAYER}", "/head_p", "StatefulPartitionedCall")


def export_tflite(
    model: keras.Model,
    path: Path,
    *,
    quantization: str | None = None,
    representative_data: Iterable[Any] | None = None,
    image_size: Any = None,
    batch_size: int | list[int] = 1,
    fold: Any = "auto",
) -> pathlib.Path:
    """Writes a TFLite file that the stock LiteRT runtime runs.

    The file takes pixels 0..255, float32 or uint8, and normalises them as `model.info` describes.
    A detector's file includes decoding and NMS with the model's thresholds, and returns its
    detection dictionary. A classifier's file returns probabilities.

    Args:
        model: `Detector`, `ImageModel` or another model whose `info` defines how images are
            normalised.
        path: Path of the `.tflite` file, which appears once it is complete.
        quantization: `None` for float32; `"float16"` or `"dynamic"` (8-bit kernels) for a smaller
            file; `"int8"` for a smaller and faster one. With `"int8"`, pixels are uint8 and
            outputs float32. A detector's decoding and NMS stay in float32, because 8-bit
            coordinates and scores would lose small boxes.
        representative_data: Required for `"int8"`: iterable of 100 to 300 typical images that set
            the value ranges, arrays of shape `(height, width, 3)` with pixels 0..255, or batches
            of them.
        image_size: `(height, width)` of the images in pixels; defaults to the size the model was
            built for or trained at. A list of pairs writes one signature for each size; they
            share the weights.
        batch_size: Integer, or a list of integers to write one signature for each.
        fold: Whether to fold the network first (`keras_spd.fold`), which does not change its
            outputs. `"auto"` folds only where it was measured to help; TFLite files are not
            folded.

    Returns:
        The path.

    Raises:
        ImportError: If TensorFlow is not installed.
        ValueError: If an argument is not as described, `model.info` does not define how images
            are normalised, Keras does not run on TensorFlow, or TFLite lacks one of the model's
            operators.

    Example:

    >>> keras_spd.export.export_tflite(model, "model.tflite")
    >>> keras_spd.export.export_tflite(model, "several.tflite", batch_size=[1, 8])
    """
    path = pathlib.Path(path)
    tf = tensorflow("TFLite files")
    if path.suffix != ".tflite":
        raise ValueError(f"The name of a TFLite file ends in `.tflite`. Received: {path}.")
    if quantization not in QUANTIZATIONS:
        raise ValueError(
            f"`quantization` must be one of {', '.join(map(repr, QUANTIZATIONS))}. "
            f"Received: quantization={quantization!r}."
        )
    preprocessing = known_preprocessing(model)
    model = folded(model, fold, "TFLite")
    several = isinstance(image_size, list) and not all(isinstance(side, int) for side in image_size)
    sizes = image_size if several else [image_size]
    counts = batch_size if isinstance(batch_size, list) else [batch_size]
    images = None
    if quantization == "int8":
        images = check_calibration(representative_data)
    serves = [serving.serving_model(model, size, count) for size in sizes for count in counts]
    contents = {}
    for serve in serves:
        shape = serve.input_shape
        fitted = images
        if images and len(sizes) > 1:
            fitted = resize_calibration(images, shape[1:3], preprocessing)
        samples = fitted and calibration_batches(fitted, shape)
        name = f"{shape[1]}x{shape[2]}_batch{shape[0]}"
        contents[name] = _tflite(tf, serve, quantization, samples, model)
    content = merge_signatures(contents) if len(contents) > 1 else contents[name]
    record = serving.describe(model, serves[0].input_shape[1:3], quantization)
    content = add_metadata(content, record)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def tensorflow(what: str) -> Any:
    """Imports TensorFlow, or raises an error that names `what` needs it, e.g. "TFLite files"."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{what} are written with TensorFlow, but Keras runs on "
            f'"{keras.backend.backend()}". Save the model and export it in a process started with '
            "KERAS_BACKEND=tensorflow."
        )
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(f"Writing {what} needs `pip install tensorflow`.") from error
    return tf


def _tflite(
    tf: Any,
    serve: keras.Model,
    quantization: str | None,
    samples: list[Array] | None,
    model: keras.Model,
) -> bytes:
    """Returns the bytes of a file with one signature."""
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(serve)
        archive.add_endpoint(
            "serve",
            lambda images: serve(images, training=False),
            input_signature=[keras.InputSpec(shape=serve.input_shape, dtype="float32")],
        )
        archive.write_out(folder, verbose=False)
        return _convert(tf, folder, quantization, samples, model)


def _convert(
    tf: Any, folder: str, quantization: str | None, samples: list[Array] | None, model: keras.Model
) -> bytes:
    from tensorflow.lite.python.convert import ConverterError

    try:
        if quantization == "int8" and isinstance(model, Detector):
            content = _convert_detector_to_int8(tf, folder, samples)
        else:
            content = _converter(tf, folder, quantization, samples).convert()
        if quantization == "int8":
            content = take_pixels(content)
        foreign = foreign_operators(content)
    except ConverterError as error:
        foreign = re.findall(r"(?:Select|Custom) ops: (.+)", str(error)) or [str(error)[-500:]]
    if foreign:
        raise ValueError(
            f"`{model.name}` cannot be exported to TFLite: the stock runtime has no operator "
            f"{', '.join(foreign)}."
        )
    return content


def _convert_detector_to_int8(tf: Any, folder: str, samples: list[Array] | None) -> bytes:
    # A float32 file gives the names of the operators after the network's outputs, which stay
    # float32.
    from keras_spd.export.metadata import tensor_names

    names = tensor_names(_converter(tf, folder, None, None).convert())
    converter = _converter(tf, folder, "int8", samples)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        debugger = _debugger(tf, converter, names)
    return shorten_float_kernels(debugger.get_nondebug_quantized_model())


def _debugger(tf: Any, converter: Any, names: Iterable[str]) -> Any:
    return tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=converter.representative_dataset,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=_left_in_float(names),
            denylisted_ops=["SPLIT", "TOPK_V2"],  # their outputs have generated names
        ),
    )


def _left_in_float(names: Iterable[str]) -> list[str]:
    """Returns the names of the operators that are not quantised, given the names of tensors.

    A tensor has the name of its operator, with a digit or two appended if the name is taken.
    """
    chosen = [name for name in names if any(part in name for part in _IN_FLOAT)]
    return sorted({name[: len(name) - end] for name in chosen for end in range(3)})


def _converter(tf: Any, folder: str, quantization: str | None, samples: list[Array] | None) -> Any:
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
        converter.representative_dataset = lambda: ([batch] for batch in samples or [])
    return converter
