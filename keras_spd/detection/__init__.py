"""Raw predictions in, losses or boxes out; knows feature maps and no architecture."""

from keras_spd.detection.anchors import best_possible_recall as best_possible_recall
from keras_spd.detection.anchors import fit_anchors as fit_anchors
from keras_spd.detection.decoding import Decoder as Decoder
from keras_spd.detection.decoding import decode as decode
from keras_spd.detection.detector import Detector as Detector
from keras_spd.detection.detector import paper_optimizer as paper_optimizer
from keras_spd.detection.losses import YOLOV5Loss as YOLOV5Loss
