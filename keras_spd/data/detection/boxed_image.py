"""`BoxedImage`, an image of a detection dataset."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from keras_spd.images.max_value import find_max_value
from keras_spd.images.read import read_image
from keras_spd.typing import Array


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedImage:
    """An image and the boxes in it.

    Args:
        image_id: Integer or string, as in the annotations.
        name: File name, for messages.
        source: Path, or function that returns the bytes of an encoded image.
        size_hw: Height and width in pixels.
        boxes: float32 array of shape `(boxes, 4)`, xyxy in pixels, inside the image.
        classes: Integer array of shape `(boxes,)`.
        crowd: Boolean array of shape `(boxes,)`, true for regions of many objects, which training
            skips and COCO's scores ignore.
        records: The entry of each box in COCO annotations, if it was read from them.
        max_value: The value that maps to 255 in an image with more than 8 bits, as in
            `load_detection`.
    """

    image_id: Any
    name: str
    source: Any
    size_hw: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    records: tuple[dict, ...] = ()
    max_value: float | None = None

    def read(self) -> Array:
        """Returns the pixels, a uint8 array of shape `(height, width, 3)`."""
        return read_image(self.encoded(), self.name, self.size_hw, self.max_value)

    @property
    def whole(self) -> "BoxedImage":
        """The image to decode: itself; for a tile, the image it is cut from."""
        return self

    def cut(self, pixels: Array) -> Array:
        """Returns this image's part of the pixels of `whole`: all of them."""
        return pixels

    def part_of(self, whole: "BoxedImage") -> "BoxedImage":
        """Returns this image's part of a changed `whole`: all of it."""
        return whole

    def encoded(self) -> str | os.PathLike | bytes:
        """Returns the path of the image, or its encoded bytes."""
        return self.source() if callable(self.source) else self.source


def with_max_value(
    images: Iterable[BoxedImage], max_value: float | Literal["auto"] | None
) -> tuple[BoxedImage, ...]:
    """Returns `BoxedImage`s with a `max_value`; `"auto"` finds it over all of them.

    Broken images are skipped here; they are reported when they are read.
    """
    if max_value == "auto":
        max_value = find_max_value((image.encoded() for image in images), on_problem="skip")
    wholes = dict.fromkeys(image.whole for image in images)
    changed = {whole: dataclasses.replace(whole, max_value=max_value) for whole in wholes}
    return tuple(image.part_of(changed[image.whole]) for image in images)
