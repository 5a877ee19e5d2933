"""Converts existing Keras networks to SPD-Conv, and folds them for fast inference."""

from keras_spd.surgery.cost import count_multiply_adds as count_multiply_adds
from keras_spd.surgery.cost import multiply_adds_at as multiply_adds_at
from keras_spd.surgery.fold import fold as fold
from keras_spd.surgery.layers import PhaseAlignment as PhaseAlignment
from keras_spd.surgery.layers import PhasePooling as PhasePooling
from keras_spd.surgery.layers import SPDDepthwiseConv as SPDDepthwiseConv
from keras_spd.surgery.plan import Plan as Plan
from keras_spd.surgery.plan import PlannedLayer as PlannedLayer
from keras_spd.surgery.plan import plan as plan
from keras_spd.surgery.quantize_aware import quantize_aware as quantize_aware
from keras_spd.surgery.to_spd import to_spd as to_spd
