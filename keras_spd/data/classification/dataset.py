"""`ClassificationData`, the interface of all classification datasets."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_spd.checks import check_integer
from keras_spd.data.classification.arrays import ArrayBatches
from keras_spd.data.classification.augmentation import Augmentation
from keras_spd.data.hold_out import hold_out
from keras_spd.data.problems import check_augmentation, name_classes, plural
from keras_spd.images.sizes import check_image_size
from keras_spd.typing import Array


@dataclasses.dataclass(frozen=True, repr=False)
class ClassificationData:
    """Images with labels, ready to be batched.

    Create it with `load_classification`, `from_folder`, `from_tfds` or `from_arrays`.

    Args:
        num_images: Integer.
        image_shape: `(height, width, channels)`.
        class_names: Tuple of strings, by label.
        make_batches: Function that `batches` calls.
        max_value: The value that maps to 255 in images with more than 8 bits, as in
            `from_folder`.
        resize: How images of other sizes were resized, `"stretch"` or `"letterbox"`; `None` for
            arrays, which are not resized.
        read_labels: Function that returns the labels, an integer array of shape `(images,)`;
            `hold_out` needs it.
        select: Function from indices of images to the `make_batches` of these images; `hold_out`
            needs it.
    """

    num_images: int
    image_shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    make_batches: Callable[..., Any]
    max_value: float | None = None
    resize: str | None = None
    read_labels: Callable[[], Array] | None = None
    select: Callable[[Array], Callable[..., Any]] | None = None

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        return (
            f"<ClassificationData: {plural(self.num_images, 'image')} of {shape}, "
            f"{name_classes(self.class_names)}>"
        )

    def batches(
        self,
        batch_size: int,
        *,
        preprocess: Callable[[Any], Any] | None = None,
        shuffle: bool = False,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        first_epoch: int = 0,
        epochs: int | None = None,
        soft_labels: bool = False,
        image_size: int | tuple[int, int] | None = None,
    ) -> Any:
        """Returns batches for `model.fit`, `evaluate` and `predict`.

        Args:
            batch_size: Integer.
            preprocess: Function from float images 0..255 to network inputs, or `None`.
            shuffle: Boolean. A shuffled dataset drops the last, incomplete batch.
            augmentation: `Augmentation` or `None`.
            seed: Integer. Order and augmentation are pure functions of (seed, epoch, batch).
            first_epoch: Integer, the index of the first epoch, for resumed training.
            epochs: `None` for data that is iterated once per epoch, each time as the next epoch.
                An integer for a single stream of that many epochs, for
                `fit(steps_per_epoch=...)`; only used by `tf.data`.
            soft_labels: Boolean, whether labels are class probabilities, which `mixup` and
                `cutmix` need.
            image_size: Integer or `(height, width)` to resize images to after augmentation; `None`
                for the size they have.

        Returns:
            `tf.data.Dataset` for TFDS data, otherwise `ArrayBatches`, of `(images, labels)` with
            shapes `(batch, height, width, channels)` and `(batch,)`, or `(batch, classes)` with
            `soft_labels`.

        Raises:
            ValueError: If `batch_size` is not a positive integer, or images are mixed without
                `soft_labels`.
            TypeError: If `augmentation` is not an `Augmentation`.
        """
        batch_size = check_integer("batch_size", batch_size)
        check_augmentation(augmentation, Augmentation)
        augmentation = augmentation or Augmentation()
        if augmentation.mixes and not soft_labels:
            raise ValueError("`mixup` and `cutmix` mix labels: pass `soft_labels=True`.")
        return self.make_batches(
            min(batch_size, self.num_images),
            preprocess=preprocess or (lambda images: images),
            shuffle=shuffle,
            augmentation=augmentation,
            seed=seed,
            first_epoch=first_epoch,
            epochs=epochs,
            num_classes=len(self.class_names) if soft_labels else None,
            image_size=None if image_size is None else check_image_size(image_size),
        )

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of batches in a shuffled epoch."""
        return self.num_images // min(batch_size, self.num_images)

    def hold_out(
        self, fraction: float, seed: int = 0
    ) -> tuple["ClassificationData", "ClassificationData"]:
        """Holds out a fraction of the images for validation, stratified by class.

        Args:
            fraction: Number between 0 and 1.
            seed: Integer. The same seed holds out the same images.

        Returns:
            The data without these images, and these images. At least one image of each class
            remains.

        Raises:
            ValueError: If `fraction` is not between 0 and 1, there is only one image of each class,
                or the data has no `read_labels` and `select`.

        Example:

        >>> train, validation = keras_spd.data.from_folder("leaves/train").hold_out(0.1)
        """
        if self.read_labels is None or self.select is None:
            raise ValueError(
                "This `ClassificationData` was made without `read_labels` and `select`, so no "
                "images can be held out of it. Pass the validation data."
            )
        labels = self.read_labels()
        rest, held_out = hold_out(labels, fraction, seed)
        return self._part(rest, labels, self.select), self._part(held_out, labels, self.select)

    def _part(
        self, indices: Array, labels: Array, select: Callable[[Array], Callable[..., Any]]
    ) -> "ClassificationData":
        return dataclasses.replace(
            self,
            num_images=len(indices),
            make_batches=select(indices),
            read_labels=lambda: labels[indices],
            select=lambda chosen: select(indices[chosen]),
        )


def from_arrays(
    images: Array, labels: Array, class_names: Sequence[str] | None = None
) -> ClassificationData:
    """Makes `ClassificationData` from NumPy arrays; works without TensorFlow.

    Args:
        images: Array of shape `(images, height, width, channels)` with pixel values 0..255.
        labels: Integer array of shape `(images,)`, class indices.
        class_names: One name for each class. Defaults to `"0"`, `"1"`, ...

    Returns:
        `ClassificationData`.

    Raises:
        ValueError: If the shapes do not match, the values are not pixels 0..255, or a label has no
            name.

    Example:

    >>> train = keras_spd.data.from_arrays(x_train, y_train)
    >>> model.fit(train.batches(128, preprocess=preprocess_input, shuffle=True))
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(images):
        raise ValueError(
            "`images` must have the shape (images, height, width, channels) and `labels` the shape "
            f"(images,), with at least one image. Received: images.shape={images.shape}, "
            f"labels.shape={labels.shape}."
        )
    _check_pixels(images)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`labels` must be class indices. Received: dtype={labels.dtype}.")
    if class_names is None:
        class_names = [str(label) for label in range(int(labels.max()) + 1)]
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise ValueError(
            f"`labels` must be 0 to {len(class_names) - 1}, one for each of {len(class_names)} "
            f"classes. Received: {labels.min()} to {labels.max()}."
        )

    return in_memory(images, labels, tuple(class_names))


def in_memory(
    images: Any, labels: Array, class_names: tuple[str, ...], **facts: Any
) -> ClassificationData:
    """Makes `ClassificationData` from images that are indexed as a NumPy array is.

    Args:
        images: Array of shape `(images, height, width, channels)`, or an object with `shape`,
            `__len__`, `__getitem__` and a `select` that returns such an object for some indices.
        labels: Integer array of shape `(images,)`.
        class_names: Tuple of strings.
        **facts: `max_value` and `resize` of `ClassificationData`.
    """

    def select(indices: Array | None) -> Callable[..., ArrayBatches]:
        chosen = images, labels
        if indices is not None:
            take = getattr(images, "select", images.__getitem__)
            chosen = take(indices), labels[indices]

        def make_batches(batch_size: int, *, epochs: int | None, **options: Any) -> ArrayBatches:
            del epochs  # a PyDataset counts its epochs itself
            return ArrayBatches(*chosen, batch_size, **options)

        return make_batches

    return ClassificationData(
        len(images),
        images.shape[1:],
        class_names,
        select(None),
        **facts,
        read_labels=lambda: labels,
        select=select,
    )


def _check_pixels(images: np.ndarray) -> None:
    """Raises a `ValueError` unless an array holds pixels from 0 to 255."""
    if images.dtype == np.uint8:
        return
    if images.dtype.kind not in "uif":
        raise ValueError(f"`images` must hold numbers. Received: dtype={images.dtype}.")
    low, high = images.min(), images.max()
    is_scaled = images.dtype.kind == "f" and 0 < high <= 1
    if not (low >= 0 and high <= 255) or is_scaled:  # NaN too
        raise ValueError(
            f"`images` must have pixel values from 0 to 255. Received: {images.dtype} from {low:g} "
            f"to {high:g}. Scale all images, training and test, by the same number: 255 for values "
            "from 0 to 1, 255 / 4095 for a 12-bit camera."
        )
