"""Reads TFDS detection data. TensorFlow and TFDS are only imported when needed."""

import dataclasses
import pathlib
import struct
from typing import Any, Literal

import numpy as np

from keras_spd.data.detection.boxed_image import with_max_value
from keras_spd.data.detection.clean import boxed_image
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.data.open_tfds import open_builder, open_split
from keras_spd.data.problems import Problems
from keras_spd.images.read import ImageError, image_size
from keras_spd.typing import Path


def read_tfds_detection(
    name: str,
    split: str,
    *,
    data_dir: Path | None = None,
    download: bool = True,
    on_problem: str = "error",
    max_value: float | Literal["auto"] | None = None,
) -> DetectionData:
    """Reads a detection dataset of TensorFlow Datasets.

    Args:
        name: Name of the dataset, such as `"coco/2017"` or `"voc/2012"`.
        split: Split, such as `"train"`, `"validation"` or `"train[:10%]"`.
        data_dir: Folder with prepared datasets. Defaults to TFDS' own.
        download: Boolean, whether to fetch a dataset that is not in `data_dir`.
        on_problem: `"error"`, or `"skip"` to skip what cannot be used.
        max_value: As in `load_detection`.

    Returns:
        `DetectionData`. Images are read from TFDS' files one by one when they are needed.

    Raises:
        ImportError: If TensorFlow or TFDS is not installed.
        ValueError: If the dataset or split does not exist or is not for detection.
    """
    builder, tfds = open_builder(name, data_dir, download)
    features = builder.info.features
    objects, box_key, label_key = _object_feature(features, name, tfds)
    names = tuple(features[objects].feature[label_key].names)
    crowd_key = "is_crowd" if "is_crowd" in features[objects].feature else None
    # In file order, because records are looked up by their number.
    dataset, info = open_split(name, split, builder, tfds, "image")
    problems = Problems(f"{name}, {split}", on_problem)
    records = None
    if str(builder.info.file_format.value) == "tfrecord":
        records = [record for part in info.file_instructions for record in _records(part)]

    found = []
    for number, example in enumerate(dataset.as_numpy_iterator()):
        encoded = example["image"]
        file = example.get("image/filename")
        file = file.decode() if file else f"{name}, {split}, image {number}"
        try:
            size = image_size(encoded, file)
        except ImageError as error:
            problems.lines.append(str(error))
            continue
        height, width = size
        boxes = np.reshape(example[objects][box_key], (-1, 4))[:, [1, 0, 3, 2]]  # yxyx, relative
        labels = example[objects][label_key]
        found.append(
            boxed_image(
                problems,
                image_id=int(example.get("image/id", number)),
                name=file,
                source=records[number] if records else _Bytes(encoded),
                size_hw=size,
                boxes=boxes * [width, height, width, height],
                classes=labels,
                crowd=example[objects][crowd_key] if crowd_key else None,
            )
        )
    found = problems.drop_broken(with_max_value(found, max_value))
    ids = tuple(range(len(names)))
    return DetectionData(tuple(found), names, ids, **problems.report())


def _object_feature(features: Any, name: str, tfds: Any) -> tuple[str, str, str]:
    """Returns the names of the object feature, and of its box and label features."""
    if "image" in features and isinstance(features["image"], tfds.features.Image):
        for key, feature in features.items():
            inner = getattr(feature, "feature", None)
            if not isinstance(inner, tfds.features.FeaturesDict):
                continue
            boxes = [k for k, f in inner.items() if isinstance(f, tfds.features.BBoxFeature)]
            labels = [k for k, f in inner.items() if isinstance(f, tfds.features.ClassLabel)]
            if boxes and labels:
                return key, boxes[0], "label" if "label" in labels else labels[0]
    raise ValueError(
        f"The TFDS dataset {name!r} is not for detection: it must have an `image` and a sequence "
        f"of objects with a box and a label. Its features: {', '.join(features)}."
    )


@dataclasses.dataclass(frozen=True)
class _Record:
    """An encoded image in a TFRecord file, read when it is called."""

    path: pathlib.Path
    offset: int
    length: int

    def __call__(self) -> bytes:
        import tensorflow as tf

        with open(self.path, "rb") as file:
            file.seek(self.offset)
            example = tf.train.Example.FromString(file.read(self.length))
        return example.features.feature["image"].bytes_list.value[0]


@dataclasses.dataclass(frozen=True)
class _Bytes:
    """An encoded image in memory, with the interface of a `_Record`."""

    encoded: bytes

    def __call__(self) -> bytes:
        return self.encoded


def _records(instruction: Any) -> list[_Record]:
    """Lists the records of one file: each is its length, a checksum, the content, a checksum."""
    path, records = pathlib.Path(instruction.filename), []
    with path.open("rb") as file:
        while header := file.read(12):
            (length,) = struct.unpack("<Q", header[:8])
            records.append(_Record(path, file.tell(), length))
            file.seek(length + 4, 1)
    take = instruction.take if instruction.take >= 0 else len(records)
    return records[instruction.skip : instruction.skip + take]
