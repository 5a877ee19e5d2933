"""Calibration images, which set the value ranges of activations in 8 and 16 bits."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_spd.images.preprocessing import Preprocessing
from keras_spd.typing import Array, Shape


def check_calibration(data: Iterable[Any] | None, quantization: str | None) -> list[Array]:
    """Returns calibration images as a list of uint8 arrays `(height, width, channels)`.

    Args:
        data: As `representative_data` in `export_tflite`.
        quantization: Its name, for the error message.

    Raises:
        ValueError: If there are no images, or they are not pixels 0..255.
    """
    if data is None:
        raise ValueError(
            f'`quantization="{quantization}"` needs `representative_data`: 30 to 100 typical '
            "images."
        )
    images = []
    for array in data:
        if isinstance(array, tuple):  # batches of our data also have labels
            array = array[0]
        array = np.asarray(array, "float32")
        images += list(array) if array.ndim == 4 else [array]
    if not images or any(image.ndim != 3 for image in images):
        shape = next((image.shape for image in images if image.ndim != 3), "none")
        raise ValueError(
            "`representative_data` must hold images of shape (height, width, channels). "
            f"Received: {shape}."
        )
    lowest = min(float(image.min()) for image in images)
    highest = max(float(image.max()) for image in images)
    if not 1 < highest <= 255 or lowest < 0:
        raise ValueError(
            "`representative_data` must have pixels from 0 to 255. Received: values from "
            f"{lowest:g} to {highest:g}. Pass images before they are normalised."
        )
    return [image.round().astype("uint8") for image in images]


def resize_calibration(
    images: list[Array], image_size: tuple[int, int], preprocessing: Preprocessing
) -> list[Array]:
    """Resizes RGB images to `(height, width)` as a model's `Preprocessing` does."""
    return [
        image
        if image.shape[:2] == image_size or image.shape[2] != 3
        else preprocessing.resize_image(image, image_size)
        for image in images
    ]


def calibration_batches(images: list[Array], shape: Shape) -> list[Array]:
    """Groups calibration images into batches of a file's input shape.

    Args:
        images: List of arrays, as from `check_calibration`.
        shape: `(batch, height, width, channels)`.

    Returns:
        List of arrays of that shape. The last image is repeated to fill the last batch.

    Raises:
        ValueError: If an image has another shape.
    """
    wrong = next((image.shape for image in images if image.shape != shape[1:]), None)
    if wrong:
        raise ValueError(
            f"`representative_data` must hold images of shape {shape[1:]}, the network's input. "
            f"Received: {wrong}. Resize them with `model.info.preprocessing.resize_image`."
        )
    count = shape[0]
    images = images + [images[-1]] * (-len(images) % count)
    batches = [np.stack(images[start : start + count]) for start in range(0, len(images), count)]
    for batch in batches:  # so the input is quantised in steps of one
        batch[:, 0, 0], batch[:, -1, -1] = 0, 255
    return batches
