"""Layers that compute the same with operators that can be quantised."""

import keras
from keras import ops

from keras_spd.detection.detector import Detector
from keras_spd.layers import SpaceToDepth
from keras_spd.surgery import graph
from keras_spd.surgery.to_spd import with_network
from keras_spd.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_spd")
class RepeatedPixels(keras.layers.UpSampling2D):
    """`UpSampling2D` as `RESIZE_NEAREST_NEIGHBOR`; Keras' becomes `TILE`, which stays in float."""

    def call(self, inputs: Tensor) -> Tensor:
        import tensorflow as tf

        sides = [side * factor for side, factor in zip(inputs.shape[1:3], self.size, strict=True)]
        return tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=sides)


@keras.saving.register_keras_serializable(package="keras_spd")
class SlicedPhases(SpaceToDepth):
    """`SpaceToDepth` as slices and a concatenation, which also exist with 16-bit activations."""

    def _rearrange(self, images: Tensor) -> Tensor:
        bottom, right = (-side % self.scale for side in images.shape[1:3])
        if bottom or right:
            images = ops.pad(images, [[0, 0], [0, bottom], [0, right], [0, 0]])
        steps = range(self.scale)
        phases = [
            images[:, row :: self.scale, column :: self.scale] for row in steps for column in steps
        ]
        return ops.concatenate(phases, axis=-1)


def with_integer_operators(model: keras.Model, quantization: str) -> keras.Model:
    """Replaces layers whose operators cannot be quantised, without changing the outputs.

    Args:
        model: `Detector` or functional model. Others are returned as they are: a few of their
            operators stay in float32.
        quantization: `"int8"` or `"int16x8"`.

    Returns:
        A model of the same class, or `model` if there is nothing to replace.
    """
    if isinstance(model, Detector):
        network = with_integer_operators(model.network, quantization)
        return model if network is model.network else with_network(model, network)
    if not graph.is_graph(model):
        return model
    sequences = {}
    for _, layer in graph.walk(model):
        if (
            type(layer) is keras.layers.UpSampling2D
            and layer.interpolation == "nearest"
            and layer.data_format == "channels_last"
        ):
            sequences[id(layer)] = [RepeatedPixels.from_config(layer.get_config())]
        if type(layer) is SpaceToDepth and quantization == "int16x8":
            sequences[id(layer)] = [SlicedPhases.from_config(layer.get_config())]
    return graph.rebuild(model, sequences) if sequences else model
