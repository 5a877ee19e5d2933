"""What a device runs: from pixels to detections or class probabilities, as one model."""

from typing import Any

import keras

from keras_spd.detection.detector import Detector, standardize_image_size
from keras_spd.export.detections import with_detections
from keras_spd.image_model import find_info, known_preprocessing
from keras_spd.surgery.outputs import to_probabilities


def serving_model(
    model: keras.Model, image_size: int | tuple[int, int] | None, batch_size: int
) -> keras.Model:
    """Returns a functional model of known input shape that takes pixels.

    Args:
        model: `Detector`, `ImageModel` or another Keras model with one image input.
        image_size: `(height, width)`, or `None` for the model's own.
        batch_size: Integer.

    Raises:
        ValueError: If the size is not known, the model takes no images, or it does not say how
            they are normalised.
    """
    if isinstance(model, Detector):
        return with_detections(model, standardize_image_size(image_size, model), batch_size)
    shape = tuple(model.input_shape)
    sides = image_sides(model, image_size)
    inputs = keras.Input(batch_shape=(batch_size, *sides, shape[3]), name="images")
    return keras.Model(inputs, classify(model, inputs), name="serve")


def image_sides(model: keras.Model, image_size: int | tuple[int, int] | None) -> tuple[int, int]:
    """Returns the `(height, width)` a classifier's file is made for."""
    shape = tuple(model.input_shape)
    if len(shape) != 4:
        raise ValueError(f"The model must take images. Received: a model of input shape {shape}.")
    info = find_info(model)
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    trained = info.image_size if info else None
    sides = image_size or (shape[1:3] if None not in shape[1:3] else trained)
    if sides is None:
        raise ValueError(
            "An exported file is made for images of one size: pass `image_size=(height, width)`, "
            f"or build the model with an `input_shape` without `None`. Received: {shape}."
        )
    return tuple(sides)


def classify(model: keras.Model, pixels: Any) -> Any:
    """Calls a classifier in a graph: from pixels to probabilities."""
    batch = known_preprocessing(model).normalize_in_graph(pixels)
    return from_network(model, model(batch, training=False))


def to_network(model: keras.Model, pixels: Any) -> Any:
    """Returns what the Keras model itself takes, of an exported file's input."""
    return known_preprocessing(model).normalize(pixels)


def from_network(model: keras.Model, outputs: Any) -> Any:
    """Returns what an exported file of a classifier gives, of the Keras model's own outputs."""
    return to_probabilities(model, outputs) if len(outputs.shape) == 2 else outputs


def describe(
    model: keras.Model, image_size: tuple[int, int], quantization: str | None = None
) -> dict[str, Any]:
    """Returns what a program that runs an exported file must know, for its metadata."""
    record = {
        "name": model.name,
        "quantization": quantization,
        "image_size": list(image_size),
        "takes_pixels": True,  # not in files of earlier versions that took what the model takes
        "class_names": model.info.class_names,
        "resize": model.info.preprocessing.resize,
        "max_value": model.info.max_value,
    }
    if isinstance(model, Detector):
        decoder = model.decoder
        record["bounding_box_format"] = model.bounding_box_format
        record["num_classes"] = model.num_classes
        record["confidence_threshold"] = decoder.confidence_threshold
        record["iou_threshold"] = decoder.iou_threshold
        record["max_detections"] = decoder.max_detections
    return record
