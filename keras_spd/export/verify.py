"""Runs an exported file beside the Keras model it was made from."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far an exported file is from its Keras model.

    Args:
        images: Number of images both were run on.
        max_difference: Largest absolute difference of an output.
        agreement: Share of images, 0 to 1, for which both put the same class first.
    """

    images: int
    max_difference: float
    agreement: float


def verify_tflite(path, model, images, *, tolerance=1e-4):
    """Runs a TFLite file and its Keras model on the same images.

    Args:
        path: Path of the TFLite file.
        model: The classifier it was made from.
        images: Array `(images, height, width, channels)` of network inputs.
        tolerance: Largest absolute difference of an output that is accepted.

    Returns:
        `Comparison`.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If an output differs by more than `tolerance`.
    """
    expected = model.predict(images, verbose=0)
    outputs = run_tflite(path, images)
    comparison = Comparison(
        images=len(images),
        max_difference=float(np.abs(outputs - expected).max()),
        agreement=float((outputs.argmax(-1) == expected.argmax(-1)).mean()),
    )
    if not comparison.max_difference <= tolerance:  # NaN is beyond any tolerance
        raise ValueError(
            f"{path} differs from `{model.name}` by more than {tolerance}: {comparison}."
        )
    return comparison


def run_tflite(path, images):
    """Returns the first output of a TFLite file for all images, batch by batch."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError("Running a TFLite file needs `pip install ai-edge-litert`.") from error
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (input_details,) = interpreter.get_input_details()
    output_index = interpreter.get_output_details()[0]["index"]
    batch_size = input_details["shape"][0]
    outputs = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].astype("float32")
        missing = batch_size - len(batch)
        batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        interpreter.set_tensor(input_details["index"], batch)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(output_index)[: batch_size - missing])
    return np.concatenate(outputs)
