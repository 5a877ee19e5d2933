"""Builds one model from pixels to detections or class probabilities, for export."""

from typing import Any

import keras

from keras_spd.checks import check_integer
from keras_spd.detection.detector import Detector
from keras_spd.detection.image_size import standardize_image_size
from keras_spd.export.detections import with_detections
from keras_spd.image_model import find_info, known_preprocessing
from keras_spd.images.sizes import check_image_size
from keras_spd.surgery.outputs import to_probabilities


def serving_model(
    model: keras.Model, image_size: int | tuple[int, int] | None, batch_size: int
) -> keras.Model:
    """Builds a functional model with a fixed input shape that takes pixels.

    Args:
        model: `Detector`, `ImageModel` or another Keras model with one image input.
        image_size: `(height, width)` in pixels, or `None` for the model's own size.
        batch_size: Integer.

    Returns:
        Functional model from pixels 0..255 to detections or probabilities.

    Raises:
        ValueError: If `batch_size` is not a positive integer, the size is unknown, the model does
            not take images, or `model.info` does not define how they are normalised.
    """
    batch_size = check_integer("batch_size", batch_size)
    sides = image_sides(model, image_size)
    if isinstance(model, Detector):
        return with_detections(model, sides, batch_size)
    shape = tuple(model.input_shape)
    inputs = keras.Input(batch_shape=(batch_size, *sides, shape[3]), name="images")
    return keras.Model(inputs, classify(model, inputs), name="serve")


def image_sides(model: keras.Model, image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Returns the `(height, width)` in pixels that a model is exported for."""
    if isinstance(model, Detector):
        return standardize_image_size(image_size, model)
    if (outputs := len(getattr(model, "outputs", None) or [None])) != 1:
        raise ValueError(
            f"Only classifiers with one output and detectors are exported. `{model.name}` has "
            f"{outputs} outputs. Export a model of one of them: `keras.Model(model.input, "
            "model.outputs[-1])`."
        )
    shape = tuple(model.input_shape)
    if len(shape) != 4:
        raise ValueError(f"The model must take images. Received: a model of input shape {shape}.")
    info = find_info(model)
    asked = None if image_size is None else check_image_size(image_size)
    trained = info.image_size if info else None
    sides = asked or (shape[1:3] if None not in shape[1:3] else trained)
    if sides is None:
        raise ValueError(
            "An exported file takes images of one size. Pass `image_size=(height, width)`, or "
            f"build the model with an `input_shape` without `None`. Received: {shape}."
        )
    return tuple(sides)


def classify(model: keras.Model, pixels: Any) -> Any:
    """Calls a classifier in a graph, from pixels to probabilities."""
    batch = known_preprocessing(model).normalize_in_graph(pixels)
    return from_network(model, model(batch, training=False))


def to_network(model: keras.Model, pixels: Any) -> Any:
    """Converts the input of an exported file to the input of the Keras model."""
    return known_preprocessing(model).normalize(pixels)


def from_network(model: keras.Model, outputs: Any) -> Any:
    """Converts the outputs of a Keras classifier to those of its exported file."""
    return to_probabilities(model, outputs) if len(outputs.shape) == 2 else outputs


def describe(
    model: keras.Model, image_size: tuple[int, int], quantization: str | None = None
) -> dict[str, Any]:
    """Returns the metadata of an exported file: all that a program needs to run it."""
    record = {
        "name": model.name,
        "quantization": quantization,
        "image_size": list(image_size),
        "takes_pixels": True,  # absent in files of earlier versions, which took network inputs
        "class_names": model.info.class_names,
        "resize": model.info.preprocessing.resize,
        "max_value": model.info.max_value,
        "tile": model.info.tile,
    }
    if isinstance(model, Detector):
        decoder = model.decoder
        record["bounding_box_format"] = model.bounding_box_format
        record["num_classes"] = model.num_classes
        record["confidence_threshold"] = decoder.confidence_threshold
        record["iou_threshold"] = decoder.iou_threshold
        record["max_detections"] = decoder.max_detections
        record["class_agnostic"] = decoder.class_agnostic
        record["multi_label"] = decoder.multi_label
    return record
