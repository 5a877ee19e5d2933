"""Batches from NumPy arrays, on any backend and without TensorFlow."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spd.checks import check_integer
from keras_spd.data.classification.augmentation import Augmentation
from keras_spd.typing import Array


class ArrayBatches(keras.utils.PyDataset):
    """Batches of images and labels for `model.fit`, `evaluate` and `predict`.

    Order and augmentation are pure functions of (seed, epoch, batch). Pass `shuffle=False` to
    `fit`; otherwise Keras shuffles the batches again, using its own random state.

    Args:
        images: Array of shape `(images, height, width, channels)`.
        labels: Array of shape `(images,)`.
        batch_size: Integer.
        preprocess: Function from float images to network inputs, or `None`.
        shuffle: Boolean. A shuffled dataset drops the last, incomplete batch.
        augmentation: `Augmentation` or `None`.
        seed: Integer.
        first_epoch: Integer, the index of the first epoch, for resumed training.
        num_classes: Integer to return soft labels for that many classes; `None` for class
            indices.
        image_size: `(height, width)` to resize images to after augmentation, or `None`.

    Raises:
        ValueError: If `batch_size` is not a positive integer, or images are mixed without
            `num_classes`.

    Example:

    >>> batches = ArrayBatches(x_train, y_train, 128, shuffle=True)
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        batch_size: int,
        *,
        preprocess: Callable[[Array], Array] | None = None,
        shuffle: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        num_classes: int | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        batch_size = check_integer("batch_size", batch_size)
        self.images, self.labels = images, labels
        self.batch_size = min(batch_size, len(images))
        self.preprocess = preprocess
        self.shuffle = shuffle
        augmentation = augmentation or Augmentation()
        if augmentation.mixes and num_classes is None:
            raise ValueError("`mixup` and `cutmix` mix labels: pass `num_classes`.")
        self.augment = augmentation.build(*images.shape[1:3])
        self.mix = augmentation.build_mixing()
        self.flipped_epochs = augmentation.flipped_epochs(len(images), seed)
        self.image_size = image_size
        self.num_classes = num_classes
        self.seed = seed
        self.epoch = first_epoch
        self._order = (-1, np.arange(0))  # epoch, indices

    def __len__(self) -> int:
        if self.shuffle:
            return len(self.images) // self.batch_size
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        batch = self._indices(self.epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        images, labels = self.images[batch].astype("float32"), self.labels[batch]
        keys = np.random.default_rng([self.seed, self.epoch, index]).integers(2**30, size=4)
        if self.num_classes is not None:
            labels = np.eye(self.num_classes, dtype="float32")[labels]
        if self.flipped_epochs is not None:
            flips = (self.flipped_epochs[batch] - self.epoch) % 2 == 0
            images[flips] = images[flips, :, ::-1]
        if self.augment is not None:
            images = ops.convert_to_numpy(self.augment(ops.convert_to_tensor(images), keys[:2]))
        if self.mix is not None:
            mixed = self.mix(ops.convert_to_tensor(images), ops.convert_to_tensor(labels), keys[2:])
            images, labels = map(ops.convert_to_numpy, mixed)
        if self.image_size is not None:
            resized = ops.image.resize(images, self.image_size, antialias=True)
            images = np.round(ops.convert_to_numpy(resized))
        if self.preprocess is not None:
            images = self.preprocess(images)
        return images, labels

    def _indices(self, epoch: int) -> Array:
        if not self.shuffle:
            return np.arange(len(self.images))
        known, order = self._order  # another thread may replace it
        if known != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
            self._order = (epoch, order)
        return order

    def on_epoch_end(self) -> None:
        # Keras also calls this before the first epoch of each `fit`, which is therefore epoch 1.
        self.epoch += 1
