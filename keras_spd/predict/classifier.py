"""Classifies images of any size."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_spd.checks import check_integer
from keras_spd.image_model import ClassifierProtocol, ModelInfo, find_info, known_preprocessing
from keras_spd.images.batching import BatchSizes, in_batches, standardize_images
from keras_spd.images.read import memory_to_read, to_rgb
from keras_spd.images.sizes import check_image_size
from keras_spd.images.workers import decoding, map_ahead
from keras_spd.predict.loading import load_any
from keras_spd.predict.results import Classification
from keras_spd.predict.stream import stream
from keras_spd.surgery.outputs import output_kind, to_probabilities
from keras_spd.typing import Path, Shape


class Classifier:
    """Runs a classifier on image files and arrays of any size.

    Images are resized without cropping and normalised as defined by `model.info.preprocessing`.
    Logits are converted to probabilities.

    Args:
        model: Keras model with outputs of shape `(batch, classes)`, such as an `ImageModel`; the
            path of one (`.keras`, `.pt`, or a `.tflite` or `.onnx` file from `keras-spd export`);
            or a name from `keras_spd.list_models`.
        image_size: Integer or `(height, width)`; defaults to the model's own.
        batch_size: Integer.
        top: Integer, how many classes to return for each image.

    Raises:
        ValueError: If the model is not a classifier, or its image size, normalisation or type of
            output (logits or probabilities) is unknown.

    Example:

    >>> classifier = keras_spd.predict.Classifier("cifar10")
    >>> [found] = classifier("cat.jpg")
    >>> found.name(found.classes[0]), found.confidence[0]
    """

    def __init__(
        self,
        model: keras.Model | Path,
        image_size: int | tuple[int, int] | None = None,
        *,
        batch_size: int = 16,
        top: int = 5,
    ) -> None:
        if isinstance(model, (str, os.PathLike)):
            model = load_any(model)
        if not isinstance(model, ClassifierProtocol):
            raise ValueError(
                "A classifier is needed: a Keras model, or the path of one. "
                f"Received: {getattr(model, 'name', model)!r}, of type {type(model).__name__}."
            )
        shapes: tuple[Shape, Shape] = model.input_shape, model.output_shape
        if not (len(shapes[0]) == 4 and shapes[0][-1] == 3 and len(shapes[1]) == 2):
            raise ValueError(
                "A classifier takes RGB images and returns a row of numbers for each. "
                f"Received: {model.name} from {shapes[0]} to {shapes[1]}."
            )
        if shapes[1][-1] == 1:
            raise ValueError(
                f"A classifier returns a number for each class. {model.name} returns one for two "
                "classes, such as the probability p: add a layer that returns 1 - p and p."
            )
        self.model = model
        self.info = find_info(model) or ModelInfo()
        self.max_value = self.info.max_value
        self.image_size = self._check_size(image_size)
        self._preprocessing = known_preprocessing(model)
        output_kind(model)  # raises if it is unknown
        self.batch_size = batch_size
        self._batch_sizes = BatchSizes(model)
        self.top = min(check_integer("top", top), shapes[1][-1])

    def _check_size(self, image_size: int | tuple[int, int] | None) -> tuple[int, int]:
        fixed: Shape = self.model.input_shape[1:3]
        asked = None if image_size is None else check_image_size(image_size)
        size = asked or (fixed if None not in fixed else self.info.image_size)
        if size is None:
            raise ValueError(
                f"{self.model.name} takes images of any size and does not record the size it was "
                "trained on: pass `image_size` (`--image-size`)."
            )
        if any(known not in (None, side) for known, side in zip(fixed, size, strict=True)):
            raise ValueError(
                f"{self.model.name} takes images of {fixed} only (height, width). "
                f"Received: image_size={image_size!r}."
            )
        height, width = size
        return height, width

    def __call__(self, images: Any) -> list[Classification]:
        """Classifies images.

        Args:
            images: One image or an iterable of images, as accepted by `keras_spd.images.to_rgb`:
                paths, bytes of image files, Pillow images of any mode, or uint8 or uint16 arrays
                of shape `(height, width)` or `(height, width, channels)` with 1, 3 or 4 channels.
                An array of rank 4 is a batch.

        Returns:
            List of `Classification`, one for each image; for a single image a list of one.

        Raises:
            ValueError: If an image cannot be read; the message names the file.
        """
        images = list(standardize_images(images))
        prepared = map_ahead(self.prepare, images, self.images_ahead if len(images) > 1 else 0)
        batches = in_batches(prepared, self.batch_size)
        found = [one for batch in batches for one in self.predict_prepared(batch)]
        return [
            one.with_image(image, self.max_value) for one, image in zip(found, images, strict=True)
        ]

    def stream(self, sources: Any) -> Iterator[Classification]:
        """Classifies any number of images, with three batches in memory.

        Args:
            sources: As in `keras_spd.Predictor.stream`.

        Yields:
            `Classification` in the order of the sources.

        Raises:
            ValueError: As in `keras_spd.Predictor.stream`.
        """
        return stream(self, sources)

    def probabilities(self, images: Any) -> np.ndarray:
        """Computes the probabilities of all classes.

        Args:
            images: As in `__call__`.

        Returns:
            Array of shape `(images, classes)`.
        """
        prepared = map_ahead(self.prepare, standardize_images(images), self.images_ahead)
        rows = [self._rows(batch) for batch in in_batches(prepared, self.batch_size)]
        if rows:
            return np.concatenate(rows)
        return np.zeros((0, int(self.model.output_shape[-1] or 0)), "float32")

    @property
    def images_at_once(self) -> int:
        """Integer, how many images to predict at once."""
        return self.batch_size

    @property
    def images_ahead(self) -> int:
        """Integer, how many images to read ahead."""
        return 2 * self.batch_size

    def prepare(self, image: Any) -> np.ndarray:
        """Reads an image and resizes it, in any thread; the first half of `__call__`."""
        with decoding(memory_to_read(image)):
            picture = to_rgb(image, max_value=self.max_value)
            return self._preprocessing.resize_image(picture, self.image_size)

    def _rows(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        batch = self._preprocessing.normalize(self._batch_sizes.fill(np.stack(pixels)))
        rows = to_probabilities(self.model, self.model.predict_on_batch(batch))
        return keras.ops.convert_to_numpy(rows)[: len(pixels)]

    def predict_prepared(self, pixels: Sequence[np.ndarray]) -> list[Classification]:
        """Classifies one batch of what `prepare` returns; the second half of `__call__`."""
        rows = self._rows(pixels)
        best = np.argsort(-rows, axis=1, kind="stable")[:, : self.top]
        return [
            Classification(row[classes], classes, self.info.class_names)
            for row, classes in zip(rows, best, strict=True)
        ]
