"""Files, arrays and TFDS in, batches out; knows no model."""

import contextlib

from keras_spd.data.arrays import ArrayBatches as ArrayBatches
from keras_spd.data.augmentation import Augmentation as Augmentation
from keras_spd.data.classification import ClassificationData as ClassificationData
from keras_spd.data.classification import from_arrays as from_arrays
from keras_spd.data.coco_json import read_coco as read_coco
from keras_spd.data.detection import BoxedImage as BoxedImage
from keras_spd.data.detection import DetectionData as DetectionData
from keras_spd.data.detection_augmentation import DetectionAugmentation as DetectionAugmentation
from keras_spd.data.detection_augmentation import letterbox as letterbox
from keras_spd.data.detection_batches import DetectionBatches as DetectionBatches
from keras_spd.data.detection_batches import to_dense as to_dense
from keras_spd.data.folder import from_folder as from_folder
from keras_spd.data.load import load_detection as load_detection
from keras_spd.data.packaged import load_blood_cells as load_blood_cells
from keras_spd.data.tfds_source import from_tfds as from_tfds

with contextlib.suppress(ImportError):  # where TFDS is not installed
    from keras_spd.data import tiny_imagenet as tiny_imagenet  # makes it known to `tfds.load`
