"""Shows feature maps, the regions that support a class (Grad-CAM), and detectors' confidence."""

from keras_spd.explain.confidence_map import confidence_map, draw_confidence_map
from keras_spd.explain.feature_maps import draw_feature_maps, feature_maps
from keras_spd.explain.grad_cam import draw_grad_cam, grad_cam
from keras_spd.explain.network_input import is_classifier

__all__ = [
    "confidence_map",
    "draw_confidence_map",
    "draw_feature_maps",
    "feature_maps",
    "draw_grad_cam",
    "grad_cam",
    "is_classifier",
]
