"""Reads datasets from files, arrays and TFDS, and batches them, independently of models."""

import contextlib

from keras_spd.data.classification.arrays import ArrayBatches as ArrayBatches
from keras_spd.data.classification.augmentation import Augmentation as Augmentation
from keras_spd.data.classification.dataset import ClassificationData as ClassificationData
from keras_spd.data.classification.dataset import from_arrays as from_arrays
from keras_spd.data.classification.folder import from_folder as from_folder
from keras_spd.data.classification.load import load_classification as load_classification
from keras_spd.data.classification.packaged import load_blood_cells as load_blood_cells
from keras_spd.data.classification.tfds import from_tfds as from_tfds
from keras_spd.data.detection.augmentation import DetectionAugmentation as DetectionAugmentation
from keras_spd.data.detection.batches import DetectionBatches as DetectionBatches
from keras_spd.data.detection.batches import to_dense as to_dense
from keras_spd.data.detection.coco import read_coco as read_coco
from keras_spd.data.detection.dataset import BoxedImage as BoxedImage
from keras_spd.data.detection.dataset import DetectionData as DetectionData
from keras_spd.data.detection.load import load_detection as load_detection
from keras_spd.images.geometry import letterbox as letterbox

with contextlib.suppress(ImportError):  # if TFDS is not installed
    from keras_spd.data.classification import (
        tiny_imagenet as tiny_imagenet,  # registers it for `tfds.load`
    )
