"""Runs trained models: boxes in original pixels, class probabilities, and scores."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.predict.annotation_files import write_annotations as write_annotations
    from keras_spd.predict.classifier import Classifier as Classifier
    from keras_spd.predict.evaluation import evaluate as evaluate
    from keras_spd.predict.evaluation import predict_coco as predict_coco
    from keras_spd.predict.files import load_predictor as load_predictor
    from keras_spd.predict.files import name_pictures as name_pictures
    from keras_spd.predict.files import predict_files as predict_files
    from keras_spd.predict.loading import load_detector as load_detector
    from keras_spd.predict.loading import load_model as load_model
    from keras_spd.predict.loading import load_models as load_models
    from keras_spd.predict.predictor import Predictor as Predictor
    from keras_spd.predict.results import Classification as Classification
    from keras_spd.predict.results import Detections as Detections
    from keras_spd.predict.stream import find_sources as find_sources

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "write_annotations": "keras_spd.predict.annotation_files",
        "Classifier": "keras_spd.predict.classifier",
        "evaluate": "keras_spd.predict.evaluation",
        "predict_coco": "keras_spd.predict.evaluation",
        "find_sources": "keras_spd.predict.stream",
        "load_predictor": "keras_spd.predict.files",
        "name_pictures": "keras_spd.predict.files",
        "predict_files": "keras_spd.predict.files",
        "load_detector": "keras_spd.predict.loading",
        "load_model": "keras_spd.predict.loading",
        "load_models": "keras_spd.predict.loading",
        "Predictor": "keras_spd.predict.predictor",
        "Classification": "keras_spd.predict.results",
        "Detections": "keras_spd.predict.results",
    },
)
