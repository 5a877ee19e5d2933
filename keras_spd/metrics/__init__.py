"""Scores predictions and plots the scores, independently of models."""

from typing import TYPE_CHECKING

from keras_spd.lazy import attach

if TYPE_CHECKING:
    from keras_spd.metrics.classification import ClassificationScores as ClassificationScores
    from keras_spd.metrics.classification import evaluate_classification as evaluate_classification
    from keras_spd.metrics.coco import COCOScores as COCOScores
    from keras_spd.metrics.coco import evaluate_coco as evaluate_coco
    from keras_spd.metrics.curves import confusion_matrix as confusion_matrix
    from keras_spd.metrics.curves import precision_recall as precision_recall
    from keras_spd.metrics.score_plots import draw_confusion_matrix as draw_confusion_matrix
    from keras_spd.metrics.score_plots import draw_precision_recall as draw_precision_recall

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "ClassificationScores": "keras_spd.metrics.classification",
        "evaluate_classification": "keras_spd.metrics.classification",
        "COCOScores": "keras_spd.metrics.coco",
        "evaluate_coco": "keras_spd.metrics.coco",
        "confusion_matrix": "keras_spd.metrics.curves",
        "precision_recall": "keras_spd.metrics.curves",
        "draw_confusion_matrix": "keras_spd.metrics.score_plots",
        "draw_precision_recall": "keras_spd.metrics.score_plots",
    },
)
