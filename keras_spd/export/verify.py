"""Runs an exported file beside the Keras model it was made from."""

import dataclasses

import numpy as np

from keras_spd.boxes import convert_boxes, intersection_over_union
from keras_spd.export.serving import to_network
from keras_spd.inference.tflite_detector import TFLiteDetector

# Files look at 1,000 candidates of an image and `Decoder` at 30,000: with thresholds as low as
# scores need them, they differ in boxes that nobody would look at. These are not compared.
_DOUBTFUL = 0.1


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How far an exported file is from its Keras model.

    Args:
        images: Number of images both were run on.
        max_difference: Largest absolute difference of an output; of a detector, of a coordinate
            of a box that both found, in pixels.
        agreement: Share of images, 0 to 1, for which both put the same class first; of a detector,
            of boxes of confidence 0.1 and more that both found: of the same class, with an IoU
            of 0.5 or more.
    """

    images: int
    max_difference: float
    agreement: float

    @classmethod
    def of_classes(cls, expected, received):
        """Compares the class scores of two classifiers, `(images, classes)`."""
        return cls(
            images=len(expected),
            max_difference=float(np.abs(received - expected).max()),
            agreement=float((received.argmax(-1) == expected.argmax(-1)).mean()),
        )

    def check(self, path, model, tolerance, agreement):
        """Returns itself, or raises a `ValueError` if the two differ by more."""
        # NaN is beyond any tolerance.
        if not (self.max_difference <= tolerance and self.agreement >= agreement):
            raise ValueError(
                f"{path} differs from `{model.name}` by more than {tolerance:g}, or agrees with "
                f"less than {agreement:g}: {self}."
            )
        return self


def verify_tflite(path, model, images, *, tolerance=None, agreement=None):
    """Runs a TFLite file and its Keras model on the same images.

    Args:
        path: Path of the TFLite file.
        model: The model it was made from.
        images: Array `(images, height, width, channels)` of what the file takes: pixels from 0 to
            255 for a detector and a classifier that knows its statistics.
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
        return verify_detector(
            path, model, images, TFLiteDetector(path).predict_on_batch, tolerance, agreement
        )
    received = run_tflite(path, images)
    return verify_classifier(path, model, images, received, tolerance, agreement)


def verify_detector(path, model, images, run, tolerance, agreement):
    """Compares a `Detector` with a function from a batch of pixels to detections."""
    tolerance = 0.5 if tolerance is None else tolerance
    agreement = 0.99 if agreement is None else agreement
    return _compare_detections(run, model, images).check(path, model, tolerance, agreement)


def verify_classifier(path, model, images, received, tolerance, agreement):
    """Compares a classifier with the scores that a file gave the same images."""
    expected = model.predict(to_network(model, images), verbose=0)
    tolerance = 1e-4 if tolerance is None else tolerance
    comparison = Comparison.of_classes(expected, received)
    return comparison.check(path, model, tolerance, agreement or 0.0)


def _compare_detections(run, model, images):
    """Compares what a function from a batch of pixels to detections finds with a `Detector`."""
    found = matched = 0
    difference = 0.0
    for image in images:
        batch = np.asarray(image, "float32")[None]
        ours = model.predict_on_batch(to_network(model, batch))
        theirs = run(batch)
        ours, theirs = (
            _rows(outputs, model.bounding_box_format, batch.shape[1:3])
            for outputs in (ours, theirs)
        )
        found += int(ours[2].sum() + theirs[2].sum())
        if not len(ours[0]) or not len(theirs[0]):
            continue
        overlaps = np.array(intersection_over_union(ours[0][:, None], theirs[0][None]))
        overlaps *= ours[1][:, None] == theirs[1][None]
        while overlaps.max() >= 0.5:
            row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
            overlaps[row], overlaps[:, column] = 0, 0
            count = int(ours[2][row]) + int(theirs[2][column])
            matched += count
            if count:
                apart = float(np.abs(ours[0][row] - theirs[0][column]).max())
                difference = max(difference, apart)
    return Comparison(len(images), difference, matched / found if found else 1.0)


def _rows(outputs, bounding_box_format, image_size):
    """Returns xyxy boxes in pixels and classes of the only image, and which boxes count."""
    count = int(outputs["num_detections"][0])
    boxes = convert_boxes(outputs["boxes"][0][:count], bounding_box_format, "xyxy", image_size)
    confident = np.array(outputs["confidence"][0][:count]) >= _DOUBTFUL
    return np.array(boxes), np.array(outputs["classes"][0][:count]), confident


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
        batch = np.asarray(images[start : start + batch_size], "float32")
        missing = batch_size - len(batch)
        batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        if input_details["dtype"] == np.uint8:  # pixels, with a scale of 1
            batch = np.clip(np.round(batch), 0, 255).astype("uint8")
        interpreter.set_tensor(input_details["index"], batch)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(output_index)[: batch_size - missing])
    return np.concatenate(outputs)
