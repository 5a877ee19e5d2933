"""TFDS classification data as `tf.data`. The only module that imports TFDS."""

import itertools
import math

try:
    import tensorflow as tf
    import tensorflow_datasets as tfds
except ImportError as error:
    raise ImportError(
        "Reading TFDS data needs `pip install tensorflow tensorflow-datasets importlib_resources` "
        f"({error}). Without TensorFlow, pass arrays to `keras_spd.data.from_arrays`."
    ) from error

from keras_spd.data.classification import ClassificationData

_CACHE_BYTES = 2**30
_SHUFFLE_BUFFER = 50_000


def read(name, split, *, data_dir, download):
    """See `keras_spd.data.from_tfds`."""
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"TFDS has no data set {name!r} (data_dir={data_dir!r}). `tfds.list_builders()` names "
            "those it has."
        ) from error
    features = builder.info.features
    supervised = builder.info.supervised_keys
    if (
        supervised is None
        or not isinstance(features[supervised[0]], tfds.features.Image)
        or not isinstance(features[supervised[1]], tfds.features.ClassLabel)
    ):
        raise ValueError(
            f"The TFDS data set {name!r} is not for classification: its supervised keys must be "
            f"an image and a class label. Received: supervised_keys={supervised}."
        )
    if download:
        builder.download_and_prepare()
    try:
        dataset = builder.as_dataset(
            split=split,
            as_supervised=True,
            # In the order of the files: the shuffle below must find the same order every time.
            read_config=tfds.ReadConfig(interleave_cycle_length=1),
        )
        num_images = builder.info.splits[split].num_examples
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"The TFDS data set {name!r} has no split {split!r} "
            f"in {builder.data_dir}. It has: {sorted(builder.info.splits)}."
        ) from error
    if not num_images:
        raise ValueError(f"Split {split!r} of the TFDS data set {name!r} is empty.")
    image_shape = tuple(features[supervised[0]].shape)
    if None not in image_shape and num_images * math.prod(image_shape) < _CACHE_BYTES:
        dataset = dataset.cache()

    def make_batches(batch_size, **options):
        return _batches(dataset, num_images, batch_size, **options)

    names = tuple(features[supervised[1]].names)
    return ClassificationData(num_images, image_shape, names, make_batches)


def _batches(
    dataset, num_images, batch_size, *, preprocess, shuffle, augmentation, seed, first_epoch, epochs
):
    augment = augmentation.build(*dataset.element_spec[0].shape[:2])

    def one_epoch(epoch):
        images = dataset
        if shuffle:
            # In the graph of `flat_map`, and only there: the order is not to depend on TensorFlow's
            # global seed, which `shuffle` would mix in.
            tf.random.set_seed(1)
            buffer_size = min(num_images, _SHUFFLE_BUFFER)
            images = images.shuffle(buffer_size, seed=seed * 1_000_003 + epoch)
        batches = images.batch(
            batch_size, drop_remainder=shuffle, num_parallel_calls=tf.data.AUTOTUNE
        )
        return batches.enumerate().map(
            lambda index, batch: prepare(epoch, index, *batch), num_parallel_calls=tf.data.AUTOTUNE
        )

    def prepare(epoch, index, images, labels):
        images = tf.cast(images, "float32")
        if augment is not None:
            images = augment(images, _key(seed, epoch, index))
        return preprocess(images), labels

    if not shuffle and augment is None and epochs is None:
        stream = one_epoch(tf.constant(first_epoch, "int64"))  # every epoch is the same
    else:
        if epochs is None:  # each iteration is one epoch, and the next one
            counter = itertools.count(first_epoch)
            numbers = tf.data.Dataset.from_generator(
                lambda: iter([next(counter)]), output_signature=tf.TensorSpec((), "int64")
            )
            cardinality = num_images // batch_size if shuffle else -(-num_images // batch_size)
        else:
            numbers = tf.data.Dataset.range(first_epoch, first_epoch + epochs)
            cardinality = None
        stream = numbers.flat_map(one_epoch)
        if cardinality is not None:
            stream = stream.apply(tf.data.experimental.assert_cardinality(cardinality))
    return stream.prefetch(tf.data.AUTOTUNE)


def _key(seed, epoch, index):
    """Mixes seed, epoch and batch into a tensor of two int32 numbers."""
    return tf.random.stateless_uniform(
        (2,),
        seed=tf.cast(tf.stack([seed * 1_000_003 + epoch, index]) % (2**31 - 1), "int32"),
        minval=0,
        maxval=2**30,
        dtype=tf.int32,
    )
