"""Opens datasets of TensorFlow Datasets; errors say what exists."""

import os
from typing import Any

from keras_spd.machine import leave_gpus_to_keras
from keras_spd.typing import Path


def check_source(name: str | None, data_dir: Path | None, images: Path | None = None) -> None:
    """Raises a `ValueError` if an option does not apply to the source of the data."""
    if name is None and data_dir is not None:
        raise ValueError(
            "`data_dir` (`--data-dir`) is the folder of TFDS datasets. Pass the name of one, "
            f"`name` (`--dataset`), or omit it. Received: data_dir={os.fspath(data_dir)!r}."
        )
    if name is not None and images is not None:
        raise ValueError(
            f"TFDS datasets have their own images. Received: name={name!r} (`--dataset`), "
            f"images={os.fspath(images)!r} (`--images`). Omit one."
        )


def open_builder(name: str, data_dir: Path | None, download: bool) -> tuple[Any, Any]:
    """Returns the builder of a prepared TFDS dataset, and the module `tensorflow_datasets`."""
    try:
        leave_gpus_to_keras()
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
        raise _no_split(name, split, builder) from error


def share_images(name: str, data_dir: Path | None, first: str, second: str) -> bool:
    """Returns whether two splits of a TFDS dataset, such as `"train[:10%]"`, have common images."""
    builder, _ = open_builder(name, data_dir, download=True)
    ranges = [_file_ranges(name, split, builder) for split in (first, second)]
    return any(
        file == other and start < other_end and other_start < end
        for file, start, end in ranges[0]
        for other, other_start, other_end in ranges[1]
    )


def _file_ranges(name: str, split: str, builder: Any) -> list[tuple[str, int, int]]:
    """Returns `(file, first record, last record + 1)` for each file of a split."""
    try:
        parts = builder.info.splits[split].file_instructions
    except (KeyError, ValueError, AssertionError) as error:
        raise _no_split(name, split, builder) from error
    return [(part.filename, part.skip, part.skip + part.take) for part in parts]


def _no_split(name: str, split: str, builder: Any) -> ValueError:
    return ValueError(
        f"The TFDS dataset {name!r} has no split {split!r} "
        f"in {builder.data_dir}. It has: {sorted(builder.info.splits)}."
    )
