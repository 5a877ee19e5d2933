"""Reads datasets from files, arrays and TFDS, and batches them, independently of models."""

import contextlib

from keras_spd.data.classification.arrays import ArrayBatches
from keras_spd.data.classification.augmentation import Augmentation
from keras_spd.data.classification.dataset import ClassificationData, from_arrays
from keras_spd.data.classification.folder import from_folder
from keras_spd.data.classification.load import load_classification
from keras_spd.data.classification.packaged import load_blood_cells
from keras_spd.data.classification.tfds import from_tfds
from keras_spd.data.detection.augmentation import DetectionAugmentation
from keras_spd.data.detection.batches import DetectionBatches, to_dense
from keras_spd.data.detection.boxed_image import BoxedImage
from keras_spd.data.detection.coco import read_coco
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.data.detection.load import load_detection
from keras_spd.images.geometry import letterbox

__all__ = [
    "ArrayBatches",
    "Augmentation",
    "ClassificationData",
    "from_arrays",
    "from_folder",
    "load_classification",
    "load_blood_cells",
    "from_tfds",
    "DetectionAugmentation",
    "DetectionBatches",
    "to_dense",
    "read_coco",
    "BoxedImage",
    "DetectionData",
    "load_detection",
    "letterbox",
]

with contextlib.suppress(ImportError):  # if TFDS is not installed
    from keras_spd.data.classification import (
        tiny_imagenet as tiny_imagenet,  # registers it for `tfds.load`
    )
