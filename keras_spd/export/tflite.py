"""Keras models as TFLite files."""

import os
import pathlib

import keras


def export_tflite(model, path, *, batch_size=1):
    """Writes a float32 TFLite file of TFLite's builtin operators alone.

    Args:
        model: Keras model with one image input of known height and width.
        path: Path of the file. It appears when it is complete.
        batch_size: Integer. A TFLite file is made for one.

    Returns:
        The path.

    Raises:
        ImportError: If TensorFlow is not installed.
        ValueError: If Keras does not run on TensorFlow, or a side of the input is not known.

    Example:

    >>> keras_spd.export.export_tflite(model, "model.tflite")
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "TFLite files are written with TensorFlow, but Keras runs on "
            f'"{keras.backend.backend()}". Save the model, and export it in a process started '
            "with KERAS_BACKEND=tensorflow."
        )
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError("Exporting to TFLite needs `pip install tensorflow`.") from error
    shape = tuple(model.input_shape)
    if len(shape) != 4 or None in shape[1:]:
        raise ValueError(
            "A TFLite file is made for images of one size: build the model with an `input_shape` "
            f"without `None`. Received: a model with the input shape {shape}."
        )

    path = pathlib.Path(path)
    if path.suffix != ".tflite":
        raise ValueError(f"The name of a TFLite file ends in `.tflite`. Received: {path}.")
    unfinished = path.with_name(f"{path.stem}.unfinished.tflite")
    try:
        model.export(
            unfinished,
            format="litert",
            verbose=False,
            input_signature=[
                keras.InputSpec(shape=(batch_size, *shape[1:]), dtype="float32", name="images")
            ],
            # Keras would allow operators of TensorFlow, which the stock runtime does not have.
            target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        )
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
