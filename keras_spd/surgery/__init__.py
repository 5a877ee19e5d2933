"""Converts existing Keras networks to SPD-Conv, and folds them for fast inference."""

from keras_spd.surgery.cost import count_multiply_adds, multiply_adds_at
from keras_spd.surgery.fold import fold
from keras_spd.surgery.layers import PhaseAlignment, PhasePooling, SPDDepthwiseConv
from keras_spd.surgery.plan import Plan, PlannedLayer, plan
from keras_spd.surgery.quantize_aware import quantize_aware
from keras_spd.surgery.to_spd import to_spd

__all__ = [
    "count_multiply_adds",
    "multiply_adds_at",
    "fold",
    "PhaseAlignment",
    "PhasePooling",
    "SPDDepthwiseConv",
    "Plan",
    "PlannedLayer",
    "plan",
    "quantize_aware",
    "to_spd",
]
