"""Loads the blood cell images in the package."""

import pathlib

import numpy as np

from keras_spd.data.classification.dataset import ClassificationData, from_arrays

_BLOOD_CELLS = pathlib.Path(__file__).parent / "blood_cells"


def load_blood_cells(split: str = "train") -> ClassificationData:
    """Reads 32x32 images of red blood cells, white blood cells and platelets.

    They are crops of the BCCD images (MIT licence): 817 training and 614 test cells, from
    different images. Needs no download and no TensorFlow.

    Args:
        split: `"train"` or `"test"`.

    Returns:
        `ClassificationData` with the classes RBC, WBC and Platelets.

    Raises:
        ValueError: If there is no such split.

    Example:

    >>> train = keras_spd.data.load_blood_cells("train")
    """
    if split not in ("train", "test"):
        raise ValueError(f'`split` must be "train" or "test". Received: split={split!r}.')
    with np.load(_BLOOD_CELLS / f"{split}.npz") as file:
        return from_arrays(file["images"], file["labels"], ("RBC", "WBC", "Platelets"))
