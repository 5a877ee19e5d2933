"""Copies a model to another precision."""

import contextlib
from collections.abc import Iterator

import keras

from keras_spd import keras_internals
from keras_spd.detection.detector import Detector
from keras_spd.surgery import graph
from keras_spd.surgery.to_spd import with_network


@contextlib.contextmanager
def float32_policy() -> Iterator[None]:
    """Layers that are built inside are float32, whatever Keras' dtype policy is."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def copy_model(model: keras.Model, precision: str, *, any_size: bool = False) -> keras.Model:
    """Copies a float32 model, with its weights, to compute in another precision.

    The weights and the last layers stay float32, as Keras' guide to mixed precision advises: the
    softmax of a classifier. A detector's outputs are cast to float32; its loss computes in it.

    Args:
        model: `Detector`, functional or Sequential model.
        precision: Name of a Keras dtype policy, such as `"mixed_bfloat16"`.
        any_size: Boolean, whether the copy of a classifier takes images of any size.

    Raises:
        ValueError: With `any_size`, if the weights of a layer depend on the image size.

    Example:

    >>> copy_model(model, "mixed_bfloat16").get_layer("stem_conv").compute_dtype
    'bfloat16'
    """
    detects = isinstance(model, Detector)
    if detects:
        copy = with_network(model, graph.rebuild(model.network))
    elif any_size:
        copy = graph.resize(model, (None, None, model.input_shape[-1]))
    else:
        copy = graph.rebuild(model)
    network = copy.network if detects else copy
    last = {id(keras_internals.origin(tensor)[0]) for tensor in network.outputs}
    for layer in keras_internals.nested_layers(copy):
        if id(layer) not in last and layer.dtype_policy.name == "float32":
            layer.dtype_policy = precision
    return copy
