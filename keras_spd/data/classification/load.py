"""Loads classification data from any source."""

import os
from collections.abc import Sequence
from typing import Literal

from keras_spd.data.classification.dataset import ClassificationData
from keras_spd.data.classification.folder import from_folder
from keras_spd.data.classification.packaged import load_blood_cells
from keras_spd.data.classification.tfds import from_tfds
from keras_spd.data.open_tfds import check_source
from keras_spd.images.sizes import check_image_size


def load_classification(
    source: str | os.PathLike,
    *,
    name: str | None = None,
    data_dir: str | os.PathLike | None = None,
    image_size: int | tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
    on_problem: str = "error",
    max_value: float | Literal["auto"] | None = None,
    resize: str = "stretch",
) -> ClassificationData:
    """Reads a classification dataset from a folder, from the package or from TFDS.

    | `source` | `name` | read by |
    | --- | --- | --- |
    | folder with a subfolder of images for each class | `None` | `from_folder` |
    | `train` or `test` | `"blood_cells"` | `load_blood_cells` |
    | split | TFDS dataset, such as `"cifar10"` | `from_tfds` |

    Args:
        source: Path of a folder, or a split.
        name: Dataset that `source` is a split of; `None` if it is a folder.
        data_dir: Folder with prepared TFDS datasets; TFDS' own by default.
        image_size: Integer or `(height, width)` to resize images to. The packaged images are 32x32.
        class_names: The classes of a folder, in order. Defaults to the names of its folders. Other
            data must have these classes.
        on_problem: `"error"`, or `"skip"` to skip broken images of a folder.
        max_value: The value that maps to 255 in images with more than 8 bits, as in `from_folder`.
            Images of TFDS have 8 bits; others are refused.
        resize: `"stretch"` or `"letterbox"`, as in `keras_spd.applications.Preprocessing`.

    Returns:
        `ClassificationData`.

    Raises:
        ImportError: If TFDS is needed and not installed.
        ValueError: If there is no such dataset, or it cannot be read.

    Example:

    >>> train = keras_spd.data.load_classification("train", name="blood_cells")
    >>> train = keras_spd.data.load_classification("leaves/train", image_size=(64, 64))
    """
    check_source(name, data_dir)
    if image_size is not None:
        image_size = check_image_size(image_size)
    if name is None:
        return from_folder(
            source,
            image_size=image_size,
            class_names=class_names,
            on_problem=on_problem,
            max_value=max_value,
            resize=resize,
        )
    if name == "blood_cells":
        if image_size not in (None, (32, 32)):
            raise ValueError(
                "The packaged blood cells are images of 32x32 pixels. Received: "
                f"image_size={image_size!r}. Omit it (`--image-size`), or use a model that takes "
                "this size."
            )
        found = load_blood_cells(str(source))
    else:
        data_dir = None if data_dir is None else os.fspath(data_dir)
        found = from_tfds(
            name, str(source), data_dir=data_dir, image_size=image_size, resize=resize
        )
    if class_names is not None and tuple(class_names) != found.class_names:
        raise ValueError(
            f"{name} has the classes {found.class_names}. Received: "
            f"class_names={tuple(class_names)}. Only the classes of a folder can be chosen."
        )
    return found
