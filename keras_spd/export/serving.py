"""What a device runs: from pixels to detections or class probabilities, as one model."""

import keras
import numpy as np


def takes_pixels(model):
    """Tells whether what goes into an exported file is pixels, 0 to 255.

    So it is for detectors, and for classifiers that know the statistics of their inputs.
    """
    return hasattr(model, "decoder") or _statistics(model) is not None


def serving_model(model, image_size, batch_size):
    """Returns a functional model of known input shape: pixels in, if the model knows its inputs.

    Args:
        model: `Detector`, `ImageModel` or another Keras model with one image input.
        image_size: `(height, width)`, or `None` for the model's own.
        batch_size: Integer.

    Raises:
        ValueError: If the size is not known, or the model takes no images.
    """
    if hasattr(model, "decoder"):
        from keras_spd.detection.detector import standardize_image_size
        from keras_spd.export.detections import with_detections

        return with_detections(model, standardize_image_size(image_size, model), batch_size)
    shape = tuple(model.input_shape)
    sides = image_sides(model, image_size)
    inputs = keras.Input(batch_shape=(batch_size, *sides, shape[3]), name="images")
    return keras.Model(inputs, classify(model, inputs), name="serve")


def image_sides(model, image_size):
    """Returns the `(height, width)` a classifier's file is made for."""
    shape = tuple(model.input_shape)
    if len(shape) != 4:
        raise ValueError(f"The model must take images. Received: a model of input shape {shape}.")
    info = getattr(model, "info", None)
    sides = image_size or (shape[1:3] if None not in shape[1:3] else info and info.image_size)
    if sides is None:
        raise ValueError(
            "An exported file is made for images of one size: pass `image_size=(height, width)`, "
            f"or build the model with an `input_shape` without `None`. Received: {shape}."
        )
    return tuple(sides)


def classify(model, pixels):
    """Calls a classifier on pixels, or on whatever it takes if it knows no statistics."""
    statistics = _statistics(model)
    if statistics is None:
        return model(pixels, training=False)
    # As a 1x1 convolution it is one operator, which 8 bits do no harm to.
    deviation = 255 * np.array(statistics.std)
    normalize = keras.layers.DepthwiseConv2D(1, name="normalize", dtype="float32")
    normalize.build(pixels.shape)
    normalize.kernel.assign((1 / deviation).reshape(1, 1, 3, 1))
    normalize.bias.assign(-255 * np.array(statistics.mean) / deviation)
    return model(normalize(pixels), training=False)


def to_network(model, pixels):
    """Returns what the Keras model itself takes, of an exported file's input."""
    from keras_spd.images.preprocessing import preprocess_input

    if hasattr(model, "decoder"):
        low, high = model.info.input_range
        return pixels * ((high - low) / 255) + low
    statistics = _statistics(model)
    return pixels if statistics is None else preprocess_input(pixels, statistics)


def _statistics(model):
    return getattr(getattr(model, "info", None), "statistics", None)


def describe(model, image_size, quantization=None):
    """Returns what a program that runs an exported file must know, for its metadata."""
    info = getattr(model, "info", None)
    record = {
        "name": model.name,
        "quantization": quantization,
        "image_size": list(image_size),
        "takes_pixels": takes_pixels(model),
    }
    if info is not None:
        record["class_names"] = info.class_names
    if hasattr(model, "decoder"):
        decoder = model.decoder
        record["bounding_box_format"] = model.bounding_box_format
        record["num_classes"] = model.num_classes
        record["confidence_threshold"] = decoder.confidence_threshold
        record["iou_threshold"] = decoder.iou_threshold
        record["max_detections"] = decoder.max_detections
    return record
