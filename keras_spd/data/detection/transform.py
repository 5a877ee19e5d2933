"""Applies the user's own augmentation to images with boxes."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from keras_spd.typing import Array

# From image, boxes, classes and a random generator to image, boxes and classes.
Transform: TypeAlias = Callable[[Array, Array, Array, np.random.Generator], Any]


def check_transform(transform: Any) -> Transform | None:
    """Returns the transform, or raises a `TypeError` if it is no function of four arguments."""
    if transform is None or (callable(transform) and _takes_four(transform)):
        return transform
    raise TypeError(
        "`transform` must be a function from (image, boxes, classes, rng) to "
        f"(image, boxes, classes), or `None`. Received: {transform!r}."
    )


def _takes_four(transform: Callable[..., Any]) -> bool:
    try:
        inspect.signature(transform).bind(1, 2, 3, 4)
    except TypeError:
        return False
    except ValueError:  # written in C
        pass
    return True


def apply_transform(
    transform: Transform, sample: tuple[Array, Array, Array], key: Sequence[int], classes: int
) -> tuple[Array, Array, Array]:
    """Returns a transformed image with its boxes and classes.

    Args:
        transform: Function, see `DetectionData.batches`.
        sample: uint8 image `(height, width, 3)`; xyxy boxes in its pixels; and their classes.
        key: Integers that determine the random generator.
        classes: Number of classes.

    Raises:
        ValueError: If the result is not as described.
    """
    image, boxes, labels = sample
    copies = image.copy(), boxes.astype("float32"), labels.copy()
    result = transform(*copies, np.random.default_rng(key))
    try:
        new_image, new_boxes, new_classes = map(np.asarray, result)
        new_boxes = new_boxes.astype("float32").reshape(-1, 4)
        new_classes = new_classes.astype(labels.dtype).reshape(-1)
    except (TypeError, ValueError) as error:
        raise _refused(image, result) from error
    fits = new_image.shape == image.shape and new_image.dtype == np.uint8
    if not fits or len(new_boxes) != len(new_classes):
        raise _refused(image, result)
    if not np.isfinite(new_boxes).all() or any(not 0 <= label < classes for label in new_classes):
        raise ValueError(
            f"`transform` must return finite boxes, and classes from 0 to {classes - 1}. Received: "
            f"boxes={new_boxes.tolist()}, classes={new_classes.tolist()}."
        )
    return new_image, new_boxes, new_classes


def try_transform(
    transform: Transform, sample: tuple[Array, Array, Array], key: Sequence[int], classes: int
) -> None:
    """Applies a transform to one image, so that its errors appear before training starts.

    In batches, TensorFlow would wrap them in its own errors.

    Raises:
        ValueError: If the boxes seem to be fractions of the image.
    """
    _, boxes, _ = sample
    _, found, _ = apply_transform(transform, sample, key, classes)
    if len(found) and found.max() <= 1 < boxes.max(initial=0):
        raise ValueError(
            "`transform` must return boxes in pixels of the image, not as fractions. Received: "
            f"{found.tolist()}."
        )


def _describe_part(part: Any) -> str:
    """Returns dtype and shape of a result, if an array can be made of it."""
    try:
        array = np.asarray(part, object if isinstance(part, str) else None)
    except ValueError:
        return f"a {type(part).__name__} whose rows differ in length"
    return f"{array.dtype} {array.shape}"


def _refused(image: Array, result: Any) -> ValueError:
    received: Any = type(result).__name__
    if isinstance(result, (tuple, list)):
        received = ", ".join(map(_describe_part, result))
    return ValueError(
        f"`transform` must return (image, boxes, classes): a uint8 image of shape {image.shape}, "
        "xyxy boxes (boxes, 4) in its pixels, and their classes (boxes,). "
        f"Received: {received}."
    )
