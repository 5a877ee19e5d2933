"""Looking into a network while it computes: what its layers give, and what a score owes to them."""

import contextlib

import keras
import numpy as np

from keras_spd.surgery.graph import walk
from keras_spd.surgery.outputs import PROBABILITIES, final_operation


@contextlib.contextmanager
def tapped(layer, tap):
    """Passes what a layer computes through a function, as long as the context lasts."""
    call = layer.call
    layer.call = lambda *args, **kwargs: tap(call(*args, **kwargs))
    try:
        yield
    finally:
        del layer.call  # the class's own comes back


def record(network, images, layers):
    """Runs a network and returns what it and some of its layers gave.

    Args:
        network: Functional or Sequential model.
        images: Batch of images.
        layers: `{name: layer}`, nested ones too.

    Returns:
        The network's outputs, and `{name: tensor}`. Of a layer that is called several times it is
        the result of the last call.
    """
    found = {}

    def keep(name):
        def tap(value):
            found[name] = value
            return value

        return tap

    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(tapped(layer, keep(name)))
        outputs = network(images, training=False)
    return outputs, found


def feature_layers(network, images):
    """Lists the layers of a network whose results are feature maps, in the order of their calls.

    Returns:
        List of `(layer, (height, width, channels))`.
    """
    shapes: dict = {}

    def note(path, layer):
        def tap(value):
            shape = tuple(getattr(value, "shape", ()))
            shapes.pop(path, None)
            if len(shape) == 4:
                shapes[path] = (layer, shape[1:])
            return value

        return tap

    with contextlib.ExitStack() as stack:
        for path, layer in walk(network):
            stack.enter_context(tapped(layer, note(path, layer)))
        network(images, training=False)
    return list(shapes.values())


@contextlib.contextmanager
def before_activation(network):
    """Makes a classifier return logits instead of probabilities, as long as the context lasts."""
    operation = final_operation(network)
    if hasattr(operation, "activation"):
        activation, operation.activation = operation.activation, keras.activations.linear
        try:
            yield
        finally:
            operation.activation = activation
    elif isinstance(operation, PROBABILITIES):
        operation.call = lambda inputs, *args, **kwargs: inputs
        try:
            yield
        finally:
            del operation.call
    else:
        yield


def gradient(function, at):
    """Returns the gradient of a function from a tensor to a number, as an array.

    Raises:
        ValueError: If Keras' backend has no gradients.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(at)
            value = function(at)
        result = tape.gradient(value, at)
    elif backend == "jax":
        import jax

        result = jax.grad(function)(at)
    elif backend == "torch":
        import torch

        at = at.detach().requires_grad_()
        [result] = torch.autograd.grad(function(at), at)
    else:
        raise ValueError(
            "Gradients need Keras on TensorFlow, JAX or PyTorch. "
            f"Received: KERAS_BACKEND={backend}."
        )
    return to_numpy(result)


def to_numpy(tensor):
    """Returns a tensor as a float array, of at least 32 bits."""
    array = keras.ops.convert_to_numpy(keras.ops.stop_gradient(tensor))
    return array.astype(np.promote_types(array.dtype, np.float32))
