"""Constructors of networks, with the arguments of Keras Applications."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.applications.from_torch import load_torch_model as load_torch_model
    from keras_spd.applications.resnet import CLASSIFIERS as CLASSIFIERS
    from keras_spd.applications.resnet import ResNet18SPD as ResNet18SPD
    from keras_spd.applications.resnet import ResNet34SPD as ResNet34SPD
    from keras_spd.applications.resnet import ResNet50SPD as ResNet50SPD
    from keras_spd.applications.resnet import ResNet101SPD as ResNet101SPD
    from keras_spd.applications.resnet import ResNet152SPD as ResNet152SPD
    from keras_spd.applications.resnet import ResNetSPDBackbone as ResNetSPDBackbone
    from keras_spd.applications.yolov5 import DETECTORS as DETECTORS
    from keras_spd.applications.yolov5 import YOLOV5SPD as YOLOV5SPD
    from keras_spd.applications.yolov5 import YOLOV5SPDBackbone as YOLOV5SPDBackbone
    from keras_spd.detection.detector import Detector as Detector
    from keras_spd.image_model import ImageModel as ImageModel
    from keras_spd.image_model import ModelInfo as ModelInfo
    from keras_spd.image_model import find_pyramid as find_pyramid
    from keras_spd.images.preprocessing import STATISTICS as STATISTICS
    from keras_spd.images.preprocessing import Preprocessing as Preprocessing
    from keras_spd.images.preprocessing import Statistics as Statistics
    from keras_spd.images.preprocessing import decode_predictions as decode_predictions
    from keras_spd.images.preprocessing import get_statistics as get_statistics
    from keras_spd.images.preprocessing import preprocess_input as preprocess_input
    from keras_spd.weights import load_torch_weights as load_torch_weights

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "load_torch_model": "keras_spd.applications.from_torch",
        "CLASSIFIERS": "keras_spd.applications.resnet",
        "ResNet18SPD": "keras_spd.applications.resnet",
        "ResNet34SPD": "keras_spd.applications.resnet",
        "ResNet50SPD": "keras_spd.applications.resnet",
        "ResNet101SPD": "keras_spd.applications.resnet",
        "ResNet152SPD": "keras_spd.applications.resnet",
        "ResNetSPDBackbone": "keras_spd.applications.resnet",
        "DETECTORS": "keras_spd.applications.yolov5",
        "YOLOV5SPD": "keras_spd.applications.yolov5",
        "YOLOV5SPDBackbone": "keras_spd.applications.yolov5",
        "Detector": "keras_spd.detection.detector",
        "ImageModel": "keras_spd.image_model",
        "ModelInfo": "keras_spd.image_model",
        "find_pyramid": "keras_spd.image_model",
        "STATISTICS": "keras_spd.images.preprocessing",
        "Preprocessing": "keras_spd.images.preprocessing",
        "Statistics": "keras_spd.images.preprocessing",
        "decode_predictions": "keras_spd.images.preprocessing",
        "get_statistics": "keras_spd.images.preprocessing",
        "preprocess_input": "keras_spd.images.preprocessing",
        "load_torch_weights": "keras_spd.weights",
    },
)
