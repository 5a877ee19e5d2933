"""Files, arrays and TFDS in, batches out; knows no model."""

from keras_spd.data.arrays import ArrayBatches as ArrayBatches
from keras_spd.data.augmentation import Augmentation as Augmentation
from keras_spd.data.classification import ClassificationData as ClassificationData
from keras_spd.data.classification import from_arrays as from_arrays
from keras_spd.data.packaged import load_blood_cells as load_blood_cells
from keras_spd.data.tfds_source import from_tfds as from_tfds
