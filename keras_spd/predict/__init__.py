"""Trained models at work: images in, boxes in original pixels and class probabilities out."""

from keras_spd.predict.classifier import Classifier as Classifier
from keras_spd.predict.evaluation import evaluate as evaluate
from keras_spd.predict.evaluation import predict_coco as predict_coco
from keras_spd.predict.files import find_sources as find_sources
from keras_spd.predict.files import load_predictor as load_predictor
from keras_spd.predict.files import name_pictures as name_pictures
from keras_spd.predict.files import predict_files as predict_files
from keras_spd.predict.loading import load_detector as load_detector
from keras_spd.predict.loading import load_model as load_model
from keras_spd.predict.loading import load_models as load_models
from keras_spd.predict.predictor import Predictor as Predictor
from keras_spd.predict.results import Classes as Classes
from keras_spd.predict.results import Detections as Detections
