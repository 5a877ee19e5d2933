"""Keras models as TFLite files of TFLite's builtin operators alone."""

import os
import pathlib
import re
import tempfile
import warnings

import keras
import numpy as np

from keras_spd.export import serving
from keras_spd.export.detections import LAYER
from keras_spd.export.metadata import add_metadata, foreign_operators

QUANTIZATIONS = (None, "float16", "dynamic", "int8")
# Layers of a detector that stay in float: coordinates and scores that share a tensor, and with it
# the step of 8 bits, are too coarse for small boxes.
_IN_FLOAT = (f"/{LAYER}", "/head_p", "StatefulPartitionedCall")


def export_tflite(
    model,
    path,
    *,
    quantization=None,
    representative_data=None,
    image_size=None,
    batch_size=1,
):
    """Writes a TFLite file that the stock LiteRT runtime runs.

    A `Detector`'s file takes pixels from 0 to 255 and returns its detection dictionary: decoding
    and suppression are inside, with the model's thresholds. The file of a classifier that knows
    its statistics (`model.info`) takes pixels too, and normalises them. Another model's file
    computes what the model computes, on the same inputs.

    Args:
        model: Keras model with one image input.
        path: Path of the file. It appears when it is complete.
        quantization: `None` for float32; `"float16"` or `"dynamic"` (8-bit kernels), which make
            the file smaller; `"int8"`, which makes it fast too. With `"int8"`, pixels are uint8
            and outputs float32. A detector's decoding and suppression stay in float32: 8 bits
            for coordinates and scores would lose small boxes.
        representative_data: For `"int8"`: iterable of 100 to 300 typical inputs, arrays of shape
            `(height, width, 3)` or batches of them, which the ranges of values are taken from.
        image_size: `(height, width)` of the images; defaults to the size the model was built for,
            or a detector was trained at.
        batch_size: Integer. A TFLite file is made for one.

    Returns:
        The path.

    Raises:
        ImportError: If TensorFlow is not installed.
        ValueError: If an argument is not as described, Keras does not run on TensorFlow, or the
            model has an operator that TFLite has not.

    Example:

    >>> keras_spd.export.export_tflite(model, "model.tflite")
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
    serve = serving.serving_model(model, image_size, batch_size)
    samples = None
    if quantization == "int8":
        samples = _samples(representative_data, serve.input_shape, serving.takes_pixels(model))
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(serve)
        archive.add_endpoint(
            "serve",
            lambda images: serve(images, training=False),
            input_signature=[keras.InputSpec(shape=serve.input_shape, dtype="float32")],
        )
        archive.write_out(folder, verbose=False)
        content = _convert(tf, folder, quantization, samples, model)
    record = serving.describe(model, serve.input_shape[1:3], quantization)
    content = add_metadata(content, record)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def tensorflow(what):
    """Returns the module, or raises an error that says what needs it."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{what} are written with TensorFlow, but Keras runs on "
            f'"{keras.backend.backend()}". Save the model, and export it in a process started '
            "with KERAS_BACKEND=tensorflow."
        )
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(f"Writing {what} needs `pip install tensorflow`.") from error
    return tf


def _samples(data, shape, are_pixels):
    """Returns calibration batches of the file's input shape."""
    if data is None:
        raise ValueError(
            '`quantization="int8"` needs `representative_data`: 100 to 300 typical images.'
        )
    images = []
    for array in data:
        array = np.asarray(array, "float32")
        images += list(array) if array.ndim == 4 else [array]
    wrong = next((image.shape for image in images if image.shape != shape[1:]), None)
    if not images or wrong:
        raise ValueError(
            f"`representative_data` must hold images of shape {shape[1:]}, the network's input. "
            f"Received: {wrong or 'none'}."
        )
    if are_pixels:
        highest = max(float(image.max()) for image in images)
        if not 1 < highest <= 255 or min(float(image.min()) for image in images) < 0:
            raise ValueError(
                "`representative_data` must have pixels from 0 to 255. "
                f"Received: values up to {highest:g}."
            )
        # With both ends among them, the input's scale is that of pixels.
        images[0] = images[0].copy()
        images[0][0, 0], images[0][-1, -1] = 0, 255
    count = shape[0]
    images += [images[-1]] * (-len(images) % count)
    return [np.stack(images[start : start + count]) for start in range(0, len(images), count)]


def _convert(tf, folder, quantization, samples, model):
    from tensorflow.lite.python.convert import ConverterError

    try:
        if quantization == "int8" and hasattr(model, "decoder"):
            content = _convert_detector_to_int8(tf, folder, samples)
        else:
            converter = _converter(tf, folder, quantization, samples)
            if quantization == "int8" and serving.takes_pixels(model):
                converter.inference_input_type = tf.uint8
            content = converter.convert()
        foreign = foreign_operators(content)
    except ConverterError as error:
        foreign = re.findall(r"(?:Select|Custom) ops: (.+)", str(error)) or [str(error)[-500:]]
    if foreign:
        raise ValueError(
            f"`{model.name}` cannot be a TFLite file: the stock runtime has no operator "
            f"{', '.join(foreign)}."
        )
    return content


def _convert_detector_to_int8(tf, folder, samples):
    # The operators behind the network's outputs are named in a float32 file, and left as they are.
    from tensorflow.lite.python.util import modify_model_io_type

    from keras_spd.export.metadata import tensor_names

    names = tensor_names(_converter(tf, folder, None, None).convert())
    converter = _converter(tf, folder, "int8", samples)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        debugger = _debugger(tf, converter, names)
    content = debugger.get_nondebug_quantized_model()
    return modify_model_io_type(content, tf.uint8, tf.float32)


def _debugger(tf, converter, names):
    return tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=converter.representative_dataset,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(
            denylisted_nodes=_left_in_float(names),
            denylisted_ops=["SPLIT", "TOPK_V2"],  # several outputs, and names of their own making
        ),
    )


def _left_in_float(names):
    """Names of the operators that are not quantised, from those of tensors.

    A tensor is called as its operator, but for a number behind the name where it is taken.
    """
    chosen = [name for name in names if any(part in name for part in _IN_FLOAT)]
    return sorted({name[: len(name) - end] for name in chosen for end in range(3)})


def _converter(tf, folder, quantization, samples):
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
        converter.representative_dataset = lambda: ([batch] for batch in samples)
    return converter
