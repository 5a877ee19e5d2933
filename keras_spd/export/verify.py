"""Runs an exported file beside the Keras model it was made from."""

import dataclasses

import numpy as np

from keras_spd.boxes import convert_boxes, intersection_over_union
from keras_spd.inference.tflite_detector import TFLiteDetector


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far an exported file is from its Keras model.

    Args:
        images: Number of images both were run on.
        max_difference: Largest absolute difference of an output; of a detector, of a coordinate
            of a box that both found, in pixels.
        agreement: Share of images, 0 to 1, for which both put the same class first; of a detector,
            of boxes that both found: of the same class, with an IoU of 0.5 or more.
    """

    images: int
    max_difference: float
    agreement: float


def verify_tflite(path, model, images, *, tolerance=None, agreement=None):
    """Runs a TFLite file and its Keras model on the same images.

    Args:
        path: Path of the TFLite file.
        model: The model it was made from.
        images: Array `(images, height, width, channels)` of network inputs; for a detector, pixels
            from 0 to 255.
        tolerance: Largest absolute difference of an output that is accepted; by default 1e-4, or
            0.5 pixels for a detector.
        agreement: Smallest agreement that is accepted; by default 0, or 0.99 for a detector.

    Returns:
        `Comparison`.

    Raises:
        ImportError: If the LiteRT interpreter is not installed.
        ValueError: If the two differ by more.
    """
    if hasattr(model, "decoder"):
        tolerance = 0.5 if tolerance is None else tolerance
        agreement = 0.99 if agreement is None else agreement
        comparison = _compare_detections(TFLiteDetector(path), model, images)
    else:
        tolerance = 1e-4 if tolerance is None else tolerance
        expected = model.predict(images, verbose=0)
        outputs = run_tflite(path, images)
        comparison = Comparison(
            images=len(images),
            max_difference=float(np.abs(outputs - expected).max()),
            agreement=float((outputs.argmax(-1) == expected.argmax(-1)).mean()),
        )
    # NaN is beyond any tolerance.
    if not (comparison.max_difference <= tolerance and comparison.agreement >= (agreement or 0)):
        raise ValueError(
            f"{path} differs from `{model.name}` by more than {tolerance:g}, or agrees with less "
            f"than {agreement or 0:g}: {comparison}."
        )
    return comparison


def _compare_detections(exported, model, images):
    found = matched = 0
    difference = 0.0
    low, high = model.info.input_range
    for image in images:
        batch = np.asarray(image, "float32")[None]
        ours = model.predict_on_batch(batch * ((high - low) / 255) + low)
        theirs = exported.predict_on_batch(batch)
        ours, theirs = (
            _rows(outputs, model.bounding_box_format, batch.shape[1:3])
            for outputs in (ours, theirs)
        )
        found += len(ours[0]) + len(theirs[0])
        if not len(ours[0]) or not len(theirs[0]):
            continue
        overlaps = np.array(intersection_over_union(ours[0][:, None], theirs[0][None]))
        overlaps *= ours[1][:, None] == theirs[1][None]
        while overlaps.max() >= 0.5:
            row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
            overlaps[row], overlaps[:, column] = 0, 0
            matched += 2
            difference = max(difference, float(np.abs(ours[0][row] - theirs[0][column]).max()))
    return Comparison(len(images), difference, matched / found if found else 1.0)


def _rows(outputs, bounding_box_format, image_size):
    """Returns xyxy boxes in pixels and classes of the only image."""
    count = int(outputs["num_detections"][0])
    boxes = convert_boxes(outputs["boxes"][0][:count], bounding_box_format, "xyxy", image_size)
    return np.array(boxes), np.array(outputs["classes"][0][:count])


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
