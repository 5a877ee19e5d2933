"""Batches of images and padded boxes, on any backend."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import keras
import numpy as np

from keras_spd.boxes import check_box_format, convert_boxes
from keras_spd.checks import check_integer
from keras_spd.data.detection.augmentation import DetectionAugmentation, Sample
from keras_spd.data.detection.image_cache import ImageCache
from keras_spd.data.detection.order import random_order
from keras_spd.data.detection.transform import (
    Transform,
    apply_transform,
    check_transform,
    try_transform,
)
from keras_spd.data.problems import check_augmentation
from keras_spd.images.geometry import letterbox
from keras_spd.images.sizes import check_image_size
from keras_spd.images.workers import check_workers, keep_freed_memory, make_pool
from keras_spd.typing import Array

_CACHE_BYTES = 2 * 2**30
BATCHES_AHEAD = 2
WINDOW = 256  # images that the others of a mosaic are drawn from


class DetectionBatches(keras.utils.PyDataset):
    """Batches of a `DetectionData`; for the arguments see `DetectionData.batches`.

    Order and augmentation are pure functions of (seed, epoch, batch). Pass `shuffle=False` to
    `fit`; otherwise Keras shuffles the batches again, using its own random state.

    The other images of a mosaic or mixup are drawn from the 256 images around the first one in the
    shuffled order of the epoch, so images are decoded once per epoch although a mosaic has four:
    the images used last are kept in memory, up to 2 GiB. For the same reason, tiles of one image
    are near each other in that order. In addition, up to five batches are in memory.
    """

    def __init__(
        self,
        data: Any,
        batch_size: int,
        image_size: int | tuple[int, int],
        *,
        bounding_box_format: str = "xyxy",
        preprocess: Callable[[Array], Array] | None = None,
        shuffle: bool = False,
        augmentation: DetectionAugmentation | None = None,
        transform: Transform | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        workers: int | None = None,
    ) -> None:
        super().__init__()  # it reads ahead itself: Keras' queue mixes batches of two epochs
        batch_size = check_integer("batch_size", batch_size)
        check_augmentation(augmentation, DetectionAugmentation)
        if not data.images:
            raise ValueError("The dataset has no images.")
        self.data, self._classes = data, len(data.class_names)
        self.batch_size = min(batch_size, data.num_images)
        self.image_size = check_image_size(image_size)
        self.bounding_box_format = check_box_format(bounding_box_format)
        self.preprocess = preprocess
        self.shuffle = shuffle
        self.augmentation = augmentation
        scaling = augmentation or DetectionAugmentation()
        self.image_sizes = scaling.image_sizes(self.image_size)
        self.transform = check_transform(transform)
        self.seed = seed
        self.epoch = first_epoch
        self._order = (-1, np.arange(0))  # epoch, indices
        self._pixels = ImageCache(_CACHE_BYTES)
        workers = check_workers(workers)
        self._map = map if workers == 1 else make_pool(workers).map
        self._ahead = make_pool(1 if workers == 1 else BATCHES_AHEAD)
        self._loading: dict[tuple[int, int], Future] = {}  # by epoch and index
        self._former = -1  # index
        if self.transform is not None:
            pixels, boxes, classes = self._read(0)
            pixels, fit = letterbox(pixels, self.image_size)
            sample = pixels, fit.to_network(boxes), classes
            try_transform(self.transform, sample, [seed, first_epoch, 0, 0, 1], self._classes)

    def __len__(self) -> int:
        if self.shuffle:
            return self.data.num_images // self.batch_size
        return -(-self.data.num_images // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Array, dict[str, Array]]:
        ahead = BATCHES_AHEAD if 0 < index == self._former + 1 else 0  # if they are read in order
        known, end = self._loading, min(index + 1 + ahead, len(self))
        self._former = index
        self._loading = {
            key: known.get(key) or self._ahead.submit(self.load, *key)
            for key in [(self.epoch, batch) for batch in range(index, end)]
        }
        images, boxes, classes = self._loading.pop((self.epoch, index)).result()
        return images, {"boxes": boxes, "classes": classes}

    def on_epoch_end(self) -> None:
        # Keras also calls this before the first epoch of each `fit`, which is therefore epoch 1.
        self.epoch += 1

    def load(self, epoch: int, batch: int) -> tuple[Array, Array, Array]:
        """Makes one batch: images, boxes and classes as arrays."""
        keep_freed_memory()
        first = batch * self.batch_size
        count = min(self.batch_size, self.data.num_images - first)
        size = self.image_size_of(epoch, batch)
        images = np.empty((count, *size, 3), "uint8")

        def make(position: int) -> tuple[Array, Array]:
            sample = self._sample(epoch, batch, position, size)
            if self.transform is not None:
                key = [self.seed, epoch, batch, position, 1]
                sample = apply_transform(self.transform, sample, key, self._classes)
            images[position], boxes, classes = sample
            return boxes, classes

        truth = list(self._map(make, range(count)))
        if self.preprocess is not None:
            images = np.asarray(self.preprocess(images.astype("float32")), "float32")
        boxes, classes = pad_boxes([one[0] for one in truth], [one[1] for one in truth])
        if self.bounding_box_format != "xyxy":
            converted = convert_boxes(boxes, "xyxy", self.bounding_box_format, size)
            converted = keras.ops.convert_to_numpy(converted)
            boxes = np.where(classes[..., None] >= 0, converted, np.float32(-1))
        return images, boxes, classes

    def image_size_of(self, epoch: int, batch: int) -> tuple[int, int]:
        """Returns height and width of the images of a batch."""
        if len(self.image_sizes) == 1:
            return self.image_sizes[0]
        rng = np.random.default_rng([self.seed, epoch, batch, 0, 2])
        return self.image_sizes[rng.integers(len(self.image_sizes))]

    def _sample(self, epoch: int, batch: int, position: int, size: tuple[int, int]) -> Sample:
        """Makes one image of a batch."""
        order, number = self._indices(epoch), batch * self.batch_size + position
        index = int(order[number])
        if self.augmentation is None:
            pixels, boxes, classes = self._read(index)
            pixels, fit = letterbox(pixels, size)
            return pixels, fit.to_network(boxes), classes
        others = order
        if self.shuffle:
            start = max(min(number - WINDOW // 2, len(order) - WINDOW), 0)
            others = order[start : start + WINDOW]
        rng = np.random.default_rng([self.seed, epoch, batch, position])
        return self.augmentation.apply(index, self._read, others, size, rng)

    def _read(self, index: int) -> Sample:
        image = self.data.images[index]
        pixels = image.cut(self._pixels(image.whole))
        return pixels, image.boxes[~image.crowd], image.classes[~image.crowd]

    def _indices(self, epoch: int) -> Array:
        if not self.shuffle:
            return np.arange(self.data.num_images)
        known, order = self._order  # another thread may replace it
        if known != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = random_order(self.data.images, rng, _CACHE_BYTES // 2)
            self._order = (epoch, order)
        return order


def pad_boxes(boxes: Sequence[Array], classes: Sequence[Array]) -> tuple[Array, Array]:
    """Pads boxes to the same number per image, a power of two to limit the number of shapes.

    Args:
        boxes: List of arrays of shape `(boxes, 4)`.
        classes: List of arrays of shape `(boxes,)`.

    Returns:
        float32 array of shape `(images, padded, 4)` and int32 array of shape `(images, padded)`,
        padded with -1.
    """
    most = max(map(len, classes), default=0)
    slots = max(8, 1 << (most - 1).bit_length() if most else 8)
    padded_boxes = np.full((len(boxes), slots, 4), -1, "float32")
    padded_classes = np.full((len(boxes), slots), -1, "int32")
    for row, (image_boxes, image_classes) in enumerate(zip(boxes, classes, strict=True)):
        padded_boxes[row, : len(image_classes)] = image_boxes
        padded_classes[row, : len(image_classes)] = image_classes
    return padded_boxes, padded_classes


def to_dense(y: Mapping[str, Any]) -> dict[str, Any]:
    """Pads ragged ground truth with -1, as required for training.

    Args:
        y: `{"boxes": ..., "classes": ...}` of ragged TensorFlow tensors, or of lists with one
            entry for each image.

    Returns:
        The same keys with arrays of shape `(images, boxes, 4)` and `(images, boxes)`.

    Raises:
        ValueError: If a key is missing, or an image has different numbers of boxes and classes.

    Example:

    >>> keras_spd.data.to_dense({"boxes": [[[0, 0, 4, 4]], []], "classes": [[1], []]})["classes"]
    array([[ 1, -1, -1, -1, -1, -1, -1, -1],
           [-1, -1, -1, -1, -1, -1, -1, -1]], dtype=int32)
    """
    if not hasattr(y, "keys") or not {"boxes", "classes"} <= set(y):
        raise ValueError('`to_dense` takes a dictionary with "boxes" and "classes".')
    boxes, classes = (
        value.to_list() if hasattr(value, "to_list") else list(value)
        for value in (y["boxes"], y["classes"])
    )
    boxes = [np.array(image, "float32").reshape(-1, 4) for image in boxes]
    classes = [np.array(image).reshape(-1) for image in classes]
    for image, labels in zip(boxes, classes, strict=True):
        if len(image) != len(labels):
            raise ValueError(f"An image has {len(image)} boxes but {len(labels)} classes.")
    padded_boxes, padded_classes = pad_boxes(boxes, classes)
    return {**y, "boxes": padded_boxes, "classes": padded_classes}
