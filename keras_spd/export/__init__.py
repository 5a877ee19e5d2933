"""Files for devices, and the proof that they compute what the Keras model computes."""

from keras_spd.export.onnx import export_onnx as export_onnx
from keras_spd.export.onnx import verify_onnx as verify_onnx
from keras_spd.export.saved_model import export_saved_model as export_saved_model
from keras_spd.export.saved_model import verify_saved_model as verify_saved_model
from keras_spd.export.tflite import export_tflite as export_tflite
from keras_spd.export.verify import Comparison as Comparison
from keras_spd.export.verify import run_tflite as run_tflite
from keras_spd.export.verify import verify_tflite as verify_tflite
