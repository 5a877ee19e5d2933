"""Exports models as TFLite, ONNX and SavedModel, and compares the files with the Keras model."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.export.onnx import export_onnx as export_onnx
    from keras_spd.export.onnx import verify_onnx as verify_onnx
    from keras_spd.export.saved_model import export_saved_model as export_saved_model
    from keras_spd.export.saved_model import verify_saved_model as verify_saved_model
    from keras_spd.export.tflite import export_tflite as export_tflite
    from keras_spd.export.verify import Comparison as Comparison
    from keras_spd.export.verify import run_tflite as run_tflite
    from keras_spd.export.verify import verify_tflite as verify_tflite

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "export_onnx": "keras_spd.export.onnx",
        "verify_onnx": "keras_spd.export.onnx",
        "export_saved_model": "keras_spd.export.saved_model",
        "verify_saved_model": "keras_spd.export.saved_model",
        "export_tflite": "keras_spd.export.tflite",
        "Comparison": "keras_spd.export.verify",
        "run_tflite": "keras_spd.export.verify",
        "verify_tflite": "keras_spd.export.verify",
    },
)
