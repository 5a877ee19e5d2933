"""Trained models at work: images in, boxes in original pixels and scores out."""

from keras_spd.inference.drawing import draw_detections as draw_detections
from keras_spd.inference.evaluation import evaluate as evaluate
from keras_spd.inference.evaluation import predict_coco as predict_coco
from keras_spd.inference.predictor import Detections as Detections
from keras_spd.inference.predictor import Predictor as Predictor
from keras_spd.inference.predictor import load_detector as load_detector
from keras_spd.inference.predictor import load_model as load_model
