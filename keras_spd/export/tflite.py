"""Exports Keras models as TFLite files that only use builtin operators."""

import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import keras

from keras_spd.checks import check_choice
from keras_spd.export import serving
from keras_spd.export.calibration import (
    calibration_batches,
    check_calibration,
    resize_calibration,
)
from keras_spd.export.folding import folded
from keras_spd.export.metadata import add_metadata, foreign_operators
from keras_spd.export.operators import with_integer_operators
from keras_spd.export.quantization import ACTIVATION_BITS, QUANTIZATIONS, quantize
from keras_spd.export.signatures import add_signature, merge_signatures
from keras_spd.files import check_folder_of, whole_file
from keras_spd.image_model import known_preprocessing
from keras_spd.surgery.quantize_aware import is_quantize_aware, without_ranges
from keras_spd.typing import Path


def export_tflite(
    model: keras.Model,
    path: Path,
    *,
    quantization: str | None = None,
    representative_data: Iterable[Any] | None = None,
    image_size: int | Sequence[int] | Sequence[tuple[int, int]] | None = None,
    batch_size: int | list[int] = 1,
    fold: bool | Literal["auto"] = "auto",
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
            file; `"int8"` for a smaller and faster one; `"int16x8"` (8-bit kernels, 16-bit
            activations) for accelerators that support it: on a CPU it is slow. With `"int8"` and
            `"int16x8"`, pixels are uint8 and outputs float32. A detector's decoding and NMS stay
            in float32, because 8-bit coordinates and scores would lose small boxes.
        representative_data: Required for `"int8"` and `"int16x8"`: iterable of 30 to 100 typical
            images that set the value ranges, arrays of shape `(height, width, 3)` with pixels
            0..255, or batches of them.
        image_size: Integer or `(height, width)`, in pixels; defaults to the size the model was
            built for or trained at. A list of pairs writes one signature for each size; they
            share the weights.
        batch_size: Integer, or a list of integers to write one signature for each.
        fold: Whether to fold the network first (`keras_spd.fold`), which does not change its
            outputs. `"auto"` folds only where it was measured to help; of TFLite files, only
            `"int16x8"`.

    Returns:
        The path.

    Raises:
        ImportError: If TensorFlow, `ai-edge-litert` or, for a quantised file, `litert-quantizer` is
            not installed.
        ValueError: If an argument is not as described, `model.info` does not define how images
            are normalised, Keras does not run on TensorFlow, or TFLite lacks one of the model's
            operators.
        FileNotFoundError: If the folder of `path` does not exist.

    Example:

    >>> keras_spd.export.export_tflite(model, "model.tflite")
    >>> keras_spd.export.export_tflite(model, "several.tflite", batch_size=[1, 8])
    """
    path = pathlib.Path(path)
    check_folder_of(path)
    tf = tensorflow("TFLite files")
    if path.suffix != ".tflite":
        raise ValueError(
            f"The name of a TFLite file ends in `.tflite`. Received: {path}. On the command line, "
            "other formats are `--format onnx` and `--format saved_model`."
        )
    check_choice("quantization", quantization, QUANTIZATIONS)
    preprocessing = known_preprocessing(model)
    images = None
    exported = folded(model, fold, "int16x8" if quantization == "int16x8" else "TFLite")
    learned = None
    if quantization in ACTIVATION_BITS and is_quantize_aware(exported):
        if quantization != "int8":
            raise ValueError(
                f'`{model.name}` was trained for 8 bits: export it with `quantization="int8"`. '
                f'Received: quantization="{quantization}".'
            )
        exported, learned = without_ranges(exported)
    if quantization in ACTIVATION_BITS:
        images = check_calibration(representative_data, quantization)
        exported = with_integer_operators(exported, quantization)
    sizes: Any = image_size
    several = isinstance(sizes, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in sizes)
    sizes = sizes if several else [sizes]
    counts: Any = batch_size
    counts = list(counts) if isinstance(counts, (list, tuple)) else [counts]
    if not counts or not sizes:
        raise ValueError("`batch_size` and `image_size` must not be empty lists.")
    serves = [serving.serving_model(exported, size, count) for size in sizes for count in counts]
    contents = {}
    for serve in serves:
        shape = serve.input_shape
        fitted = images
        if images and len(sizes) > 1:
            fitted = resize_calibration(images, shape[1:3], preprocessing)
        samples = fitted and calibration_batches(fitted, shape)
        content = _float32(tf, serve, "uint8" if images else "float32", model.name)
        if quantization is not None:
            content = quantize(content, quantization, samples, learned)
        contents[f"{shape[1]}x{shape[2]}_batch{shape[0]}"] = content
    if len(contents) > 1:
        content = merge_signatures(contents)
    record = serving.describe(model, serves[0].input_shape[1:3], quantization)
    content = add_metadata(content, record)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def tensorflow(what: str) -> Any:
    """Imports TensorFlow, or raises an error that says what needs it, such as "TFLite files"."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        # litert-torch 0.10, which Keras uses here: "PyTorch and JAX" in docs/guides/export.md.
        torch = backend == "torch" and what == "TFLite files"
        missing = " PyTorch's converter, `litert-torch`, has no operator for NMS." if torch else ""
        raise ValueError(
            f'{what} are written with TensorFlow, but Keras runs on "{backend}".{missing} Save the '
            'model (`model.save("model.keras")`) and export the same file in a process started '
            "with KERAS_BACKEND=tensorflow."
        )
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(f"Writing {what} needs `pip install tensorflow`.") from error
    return tf


def _float32(tf: Any, serve: keras.Model, pixels: str, name: str) -> bytes:
    """Returns the bytes of a file with one signature.

    Args:
        tf: TensorFlow.
        serve: Functional model, from `serving.serving_model`.
        pixels: Dtype of the file's input.
        name: Name of the Keras model, for errors.
    """
    function = tf.function(
        lambda images: serve(tf.cast(images, "float32"), training=False),
        input_signature=[tf.TensorSpec(serve.input_shape, pixels, name="images")],
        autograph=False,
    ).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], serve)
    # By way of a SavedModel, the same file takes six times as long, but has a signature.
    converter.experimental_lower_to_saved_model = False
    content = _convert(tf, converter, name)
    outputs = function.structured_outputs
    return add_signature(content, sorted(outputs) if isinstance(outputs, dict) else ["output_0"])


def _convert(tf: Any, converter: Any, name: str) -> bytes:
    from tensorflow.lite.python.convert import ConverterError

    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        content = converter.convert()
        foreign = foreign_operators(content)
    except ConverterError as error:
        foreign = re.findall(r"(?:Select|Custom) ops: (.+)", str(error)) or [str(error)[-500:]]
    if foreign:
        raise ValueError(
            f"`{name}` cannot be exported to TFLite: the stock runtime has no operator "
            f"{', '.join(foreign)}."
        )
    return content
