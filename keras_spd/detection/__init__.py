"""Turns raw predictions into losses or boxes, independently of the network's architecture."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.detection.anchors import best_possible_recall as best_possible_recall
    from keras_spd.detection.anchors import fit_anchors as fit_anchors
    from keras_spd.detection.decoding import Decoder as Decoder
    from keras_spd.detection.decoding import decode as decode
    from keras_spd.detection.detector import Detector as Detector
    from keras_spd.detection.heads import Head as Head
    from keras_spd.detection.heads import RetinaNetHead as RetinaNetHead
    from keras_spd.detection.heads import YOLOV5Head as YOLOV5Head
    from keras_spd.detection.heads import YOLOV8Head as YOLOV8Head
    from keras_spd.detection.heads.retinanet import RetinaNetLoss as RetinaNetLoss
    from keras_spd.detection.heads.yolov8 import YOLOV8Loss as YOLOV8Loss
    from keras_spd.detection.losses import YOLOV5Loss as YOLOV5Loss
    from keras_spd.detection.protocol import DetectorProtocol as DetectorProtocol

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "best_possible_recall": "keras_spd.detection.anchors",
        "fit_anchors": "keras_spd.detection.anchors",
        "Decoder": "keras_spd.detection.decoding",
        "decode": "keras_spd.detection.decoding",
        "Detector": "keras_spd.detection.detector",
        "Head": "keras_spd.detection.heads",
        "YOLOV5Head": "keras_spd.detection.heads",
        "YOLOV8Head": "keras_spd.detection.heads",
        "RetinaNetHead": "keras_spd.detection.heads",
        "YOLOV8Loss": "keras_spd.detection.heads.yolov8",
        "RetinaNetLoss": "keras_spd.detection.heads.retinanet",
        "YOLOV5Loss": "keras_spd.detection.losses",
        "DetectorProtocol": "keras_spd.detection.protocol",
    },
)
