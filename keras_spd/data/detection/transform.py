"""Applies the user's own augmentation to images with boxes."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from keras_spd.typing import Array

# From image, boxes, classes and a random generator to image, boxes and classes.
Transform: TypeAlias = Callable[[Array, Array, Array, np.random.Generator], Any]


def check_transform(transform: Any) -> Transform | None:
    """Returns the transform, or raises a `TypeError` if it is neither callable nor `None`."""
    if transform is not None and not callable(transform):
        raise TypeError(
            "`transform` must be a function from (image, boxes, classes, rng) to "
            f"(image, boxes, classes), or `None`. Received: {transform!r}."
        )
    return transform


def apply_transform(
    transform: Transform, sample: tuple[Array, Array, Array], key: Sequence[int]
) -> tuple[Array, Array, Array]:
    """Returns a transformed image with its boxes and classes.

    Args:
        transform: Function, see `DetectionData.batches`.
        sample: uint8 image `(height, width, 3)`; xyxy boxes in its pixels; and their classes.
        key: Integers that determine the random generator.

    Raises:
        ValueError: If the result is not as described.
    """
    image, boxes, classes = sample
    copies = image.copy(), boxes.astype("float32"), classes.copy()
    result = transform(*copies, np.random.default_rng(key))
    try:
        new_image, new_boxes, new_classes = map(np.asarray, result)
        new_boxes = new_boxes.astype("float32").reshape(-1, 4)
        new_classes = new_classes.astype(classes.dtype).reshape(-1)
    except (TypeError, ValueError) as error:
        raise _refused(image, result) from error
    fits = new_image.shape == image.shape and new_image.dtype == np.uint8
    if not fits or len(new_boxes) != len(new_classes):
        raise _refused(image, result)
    return new_image, new_boxes, new_classes


def _refused(image: Array, result: Any) -> ValueError:
    received: Any = type(result).__name__
    if isinstance(result, (tuple, list)):
        parts = [np.asarray(part, object if isinstance(part, str) else None) for part in result]
        received = ", ".join(f"{part.dtype} {part.shape}" for part in parts)
    return ValueError(
        f"`transform` must return (image, boxes, classes): a uint8 image of shape {image.shape}, "
        "xyxy boxes (boxes, 4) in its pixels, and their classes (boxes,). "
        f"Received: {received}."
    )
