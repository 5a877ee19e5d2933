"""Files for devices, and the proof that they compute what the Keras model computes."""

from keras_spd.export.tflite import export_tflite as export_tflite
from keras_spd.export.verify import Comparison as Comparison
from keras_spd.export.verify import run_tflite as run_tflite
from keras_spd.export.verify import verify_tflite as verify_tflite
