"""Records activations of a network's layers, and computes gradients with respect to them."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_spd.surgery.graph import walk
from keras_spd.surgery.outputs import PROBABILITIES, final_operation
from keras_spd.typing import Array, Tensor


@contextlib.contextmanager
def intercepted(layer: keras.layers.Layer, function: Callable[[Any], Any]) -> Iterator[None]:
    """Passes the outputs of a layer through a function inside this context."""
    call, outer = layer.call, vars(layer).get("call")
    layer.call = lambda *args, **kwargs: function(call(*args, **kwargs))
    try:
        yield
    finally:
        del layer.call  # restores the class's method
        if outer is not None:  # the layer was already intercepted
            layer.call = outer


def record(
    network: keras.Model, images: Tensor, layers: Mapping[str, keras.layers.Layer]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Runs a network and returns its outputs and those of some of its layers.

    Args:
        network: Functional or Sequential model.
        images: Batch of images.
        layers: `{name: layer}`, also of nested models.

    Returns:
        The network's outputs, and `{name: tensor}`. If a layer is called several times, its
        tensor is the output of the last call.
    """
    found = {}

    def keep(name: str) -> Callable[[Any], Any]:
        def function(value: Any) -> Any:
            found[name] = value
            return value

        return function

    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(intercepted(layer, keep(name)))
        outputs = network(images, training=False)
    return outputs, found


def feature_layers(
    network: keras.Model, images: Tensor
) -> list[tuple[keras.layers.Layer, tuple[int, int, int]]]:
    """Lists the layers of a network whose outputs are feature maps.

    Args:
        network: Functional or Sequential model.
        images: Batch of images.

    Returns:
        List of `(layer, (height, width, channels))`, in the order of their last calls.
    """
    shapes: dict = {}

    def note(path: str, layer: keras.layers.Layer) -> Callable[[Any], Any]:
        def function(value: Any) -> Any:
            shape = tuple(getattr(value, "shape", ()))
            shapes.pop(path, None)
            if len(shape) == 4:
                shapes[path] = (layer, shape[1:])
            return value

        return function

    with contextlib.ExitStack() as stack:
        for path, layer in walk(network):
            stack.enter_context(intercepted(layer, note(path, layer)))
        network(images, training=False)
    return list(shapes.values())


@contextlib.contextmanager
def before_activation(network: keras.Model) -> Iterator[None]:
    """Makes a classifier return logits instead of probabilities inside this context."""
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


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Array:
    """Returns the gradient of a function from a tensor to a number, as an array.

    Raises:
        ValueError: If the Keras backend has no gradients.
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


def to_numpy(tensor: Tensor) -> Array:
    """Returns a tensor as a float array with at least 32 bits."""
    array = keras.ops.convert_to_numpy(keras.ops.stop_gradient(tensor))
    return array.astype(np.promote_types(array.dtype, np.float32))
