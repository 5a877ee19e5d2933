"""Reads TFDS classification data. TensorFlow and TFDS are only imported when needed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_spd.data.classification.dataset import ClassificationData
from keras_spd.data.open_tfds import open_builder, open_split
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.images.sizes import check_image_size
from keras_spd.images.workers import default_workers
from keras_spd.typing import Array, Path

_CACHE_BYTES = 2**30


def from_tfds(
    name: str,
    split: str,
    *,
    data_dir: Path | None = None,
    download: bool = True,
    image_size: int | tuple[int, int] | None = None,
    resize: str = "stretch",
) -> ClassificationData:
    """Reads a classification dataset of TensorFlow Datasets.

    Args:
        name: Name of the dataset, such as `"cifar10"` or `"cifar100:3.0.2"`.
        split: Split, such as `"train"`, `"test"` or `"train[:10%]"`.
        data_dir: Folder with prepared datasets. Defaults to TFDS' own.
        download: Boolean, whether to fetch a dataset that is not in `data_dir`.
        image_size: Integer or `(height, width)`, in pixels, to resize images to; required if their
            sizes differ.
        resize: `"stretch"` or `"letterbox"`, as in `keras_spd.applications.Preprocessing`.

    Returns:
        `ClassificationData` of RGB images; grayscale images are converted. Its batches are a
        `tf.data.Dataset`. Images are kept in memory if the split takes less than 1 GiB.

    Raises:
        ImportError: If TensorFlow or TFDS is not installed.
        ValueError: If the dataset or split does not exist or is not for classification, its
            images have more than 8 bits, or differ in size and `image_size` is not given.

    Example:

    >>> train = keras_spd.data.from_tfds("cifar10", "train")
    >>> model.fit(train.batches(128, preprocess=preprocess_input, shuffle=True), epochs=10)
    """
    preprocessing = Preprocessing(resize)
    builder, tfds = open_builder(name, data_dir, download)
    from keras_spd.data.classification import tf_pipeline

    image, label = _check_features(name, builder.info, tfds)
    encoded, info = open_split(name, split, builder, tfds, image, as_supervised=True)
    num_images = info.num_examples
    if not num_images:
        raise ValueError(f"Split {split!r} of the TFDS dataset {name!r} is empty.")
    features = builder.info.features
    image_shape = tuple(features[image].shape)
    if image_size is None and None in image_shape[:2]:
        raise ValueError(
            f"The images of the TFDS dataset {name!r} differ in size. Pass "
            "`image_size=(height, width)`, or set `data.image_size` in a recipe."
        )
    size = None if image_size is None else check_image_size(image_size)
    image_shape = (*(size or image_shape[:2]), 3)
    standardize = tf_pipeline.standardize(size, preprocessing)

    def read(content: Any, label: Any) -> tuple[Any, Any]:
        return standardize(features[image].decode_example(content), label)

    def select(indices: Array | None) -> Callable[..., Any]:
        chosen, count = encoded, num_images
        if indices is not None:  # before they are decoded
            chosen, count = tf_pipeline.select(encoded, indices, num_images), len(indices)
        chosen = chosen.map(read, num_parallel_calls=default_workers())
        if count * math.prod(image_shape) < _CACHE_BYTES:
            chosen = chosen.cache()
        return lambda batch_size, **options: tf_pipeline.batches(
            chosen, count, batch_size, **options
        )

    def read_labels() -> Array:
        labels = encoded.map(lambda _, label: label)
        return np.concatenate(list(labels.batch(10_000).as_numpy_iterator()))

    return ClassificationData(
        num_images,
        image_shape,
        tuple(features[label].names),
        select(None),
        resize=resize,
        read_labels=read_labels,
        select=select,
    )


def _check_features(name: str, info: Any, tfds: Any) -> tuple[str, str]:
    """Returns the names of the image and the label, or raises a `ValueError`."""
    supervised = info.supervised_keys
    if (
        supervised is None
        or not isinstance(info.features[supervised[0]], tfds.features.Image)
        or not isinstance(info.features[supervised[1]], tfds.features.ClassLabel)
    ):
        raise ValueError(
            f"The TFDS dataset {name!r} is not for classification: its supervised keys must be "
            f"an image and a class label. Received: supervised_keys={supervised}."
        )
    if (pixels := np.dtype(info.features[supervised[0]].np_dtype)) != np.uint8:
        raise ValueError(
            f"The images of the TFDS dataset {name!r} are {pixels}. Only 8-bit images are read "
            "from TFDS. Save others as PNG or TIFF files and read them with "
            "`keras_spd.data.from_folder`, which scales them by `max_value`."
        )
    return supervised
