"""Shows the feature maps of a network, and the regions that support a class (Grad-CAM)."""

from keras_spd.explain.feature_maps import draw_feature_maps as draw_feature_maps
from keras_spd.explain.feature_maps import feature_maps as feature_maps
from keras_spd.explain.grad_cam import draw_grad_cam as draw_grad_cam
from keras_spd.explain.grad_cam import grad_cam as grad_cam
from keras_spd.explain.network_input import is_classifier as is_classifier
