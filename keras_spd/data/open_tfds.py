"""Opens datasets of TensorFlow Datasets; errors say what exists."""

from typing import Any

from keras_spd.typing import Path


def open_builder(name: str, data_dir: Path | None, download: bool) -> tuple[Any, Any]:
    """Returns the builder of a prepared TFDS dataset, and the module `tensorflow_datasets`."""
    try:
        import tensorflow  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "Reading TFDS data needs `pip install tensorflow tensorflow-datasets "
            f"importlib_resources` ({error}). Without TensorFlow, read files or arrays: "
            "`keras_spd.data.load_detection`, `keras_spd.data.from_arrays`."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"TFDS has no dataset {name!r} (data_dir={data_dir!r}). `tfds.list_builders()` lists "
            "all datasets."
        ) from error
    except AssertionError as error:  # a version that does not exist
        raise ValueError(f"TFDS cannot open {name!r}: {error}") from error
    if download:
        try:
            builder.download_and_prepare()
        except (OSError, tfds.download.DownloadError) as error:
            raise ValueError(
                f"The TFDS dataset {name!r} is not prepared in {builder.data_dir} and cannot be "
                f"downloaded: {error}"
            ) from error
    return builder, tfds


def open_split(
    name: str, split: str, builder: Any, tfds: Any, image: str, as_supervised: bool = False
) -> tuple[Any, Any]:
    """Returns a split as a `tf.data.Dataset` of encoded images in file order, and its `SplitInfo`.

    Args:
        name: Name of the dataset, for messages.
        split: Name of the split.
        builder, tfds: As returned by `open_builder`.
        image: Key of the image.
        as_supervised: As in `builder.as_dataset`.
    """
    try:
        dataset = builder.as_dataset(
            split=split,
            as_supervised=as_supervised,
            read_config=tfds.ReadConfig(interleave_cycle_length=1),  # in file order
            decoders={image: tfds.decode.SkipDecoding()},
        )
        return dataset, builder.info.splits[split]
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(
            f"The TFDS dataset {name!r} has no split {split!r} "
            f"in {builder.data_dir}. It has: {sorted(builder.info.splits)}."
        ) from error
