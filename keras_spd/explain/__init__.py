"""Shows feature maps, the regions that support a class (Grad-CAM), and detectors' confidence."""

from keras_spd.explain.confidence_map import confidence_map as confidence_map
from keras_spd.explain.confidence_map import draw_confidence_map as draw_confidence_map
from keras_spd.explain.feature_maps import draw_feature_maps as draw_feature_maps
from keras_spd.explain.feature_maps import feature_maps as feature_maps
from keras_spd.explain.grad_cam import draw_grad_cam as draw_grad_cam
from keras_spd.explain.grad_cam import grad_cam as grad_cam
from keras_spd.explain.network_input import is_classifier as is_classifier
