"""Trained models at work: images in, boxes in original pixels and scores out, and why."""

from keras_spd.inference.classifier import Classifier as Classifier
from keras_spd.inference.detections import Classes as Classes
from keras_spd.inference.detections import Detections as Detections
from keras_spd.inference.drawing import draw_classes as draw_classes
from keras_spd.inference.drawing import draw_detections as draw_detections
from keras_spd.inference.evaluation import evaluate as evaluate
from keras_spd.inference.evaluation import predict_coco as predict_coco
from keras_spd.inference.feature_maps import draw_feature_maps as draw_feature_maps
from keras_spd.inference.feature_maps import feature_maps as feature_maps
from keras_spd.inference.files import find_sources as find_sources
from keras_spd.inference.files import load_predictor as load_predictor
from keras_spd.inference.files import name_pictures as name_pictures
from keras_spd.inference.files import predict_files as predict_files
from keras_spd.inference.grad_cam import draw_grad_cam as draw_grad_cam
from keras_spd.inference.grad_cam import grad_cam as grad_cam
from keras_spd.inference.loading import load_detector as load_detector
from keras_spd.inference.loading import load_model as load_model
from keras_spd.inference.loading import load_models as load_models
from keras_spd.inference.network_input import is_classifier as is_classifier
from keras_spd.inference.predictor import Predictor as Predictor
from keras_spd.inference.video import VideoWriter as VideoWriter
from keras_spd.inference.video import is_video as is_video
from keras_spd.inference.video import read_video as read_video
from keras_spd.inference.video import read_webcam as read_webcam
