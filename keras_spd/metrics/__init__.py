"""Scores of detections, as numbers and as pictures; knows no model."""

from keras_spd.metrics.coco import COCOScores as COCOScores
from keras_spd.metrics.coco import evaluate_coco as evaluate_coco
