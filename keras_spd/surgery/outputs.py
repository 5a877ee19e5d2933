"""Finds out whether a classifier returns probabilities or logits."""

from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.image_model import find_info
from keras_spd.surgery.graph import is_graph
from keras_spd.typing import Tensor

# These only change shape or dtype, or do nothing at inference.
_PASS = (
    keras.layers.ActivityRegularization,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Reshape,
    *keras_internals.RESHAPING_OPERATIONS,
)
PROBABILITIES = (keras.layers.Softmax, *keras_internals.PROBABILITY_OPERATIONS)
_ACTIVATIONS = tuple(
    getattr(keras.activations, name) for name in ("softmax", "sigmoid", "hard_sigmoid")
)
_LOGITS = (
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    *keras_internals.LINEAR_OPERATIONS,
)


def output_kind(model: keras.Model) -> str:
    """Returns whether a classifier returns probabilities or logits.

    `info.preprocessing.outputs` determines it; if that is `None`, the network's last operation.

    Args:
        model: Keras model, or another model with `info`.

    Returns:
        `"probabilities"` (softmax or sigmoid) or `"logits"`.

    Raises:
        ValueError: If neither determines it.
    """
    info = find_info(model)
    if info is not None and info.preprocessing.outputs is not None:
        return info.preprocessing.outputs
    operation = final_operation(model) if is_graph(model) else None
    if _gives_probabilities(operation):
        return "probabilities"
    linear = getattr(operation, "activation", None) is keras.activations.linear
    if linear or isinstance(operation, _LOGITS) and not _combines_probabilities(model.outputs[0]):
        return "logits"
    last = "unknown" if operation is None else f"`{operation.name}` ({type(operation).__name__})"
    raise ValueError(
        f"Cannot tell whether `{model.name}` returns probabilities or logits; its last operation "
        f"is {last}. Set it with `model.info = dataclasses.replace(model.info, "
        'outputs="probabilities")`, or `"logits"`.'
    )


def _gives_probabilities(operation: Any) -> bool:
    activation = getattr(operation, "activation", None)
    return isinstance(operation, PROBABILITIES) or activation in _ACTIVATIONS


def _combines_probabilities(tensor: Tensor) -> bool:
    """Returns whether a tensor is made of probabilities alone, as the mean of an ensemble is."""
    operation, index = keras_internals.origin(tensor)
    if is_graph(operation):
        return _combines_probabilities(operation.outputs[0])
    if isinstance(operation, (*_PASS, *_LOGITS, *keras_internals.JOINING_OPERATIONS)):
        inputs = keras_internals.calls(operation)[index].input_tensors
        return all(map(_combines_probabilities, inputs))
    return _gives_probabilities(operation)


def final_operation(network: keras.Model) -> Any:
    """Returns the last operation that changes the values of a network's first output.

    Later operations only reshape, cast or pass on values. Nested models are also searched. `None`
    if there is no such operation.
    """
    tensor = network.outputs[0]
    while True:
        operation, index = keras_internals.origin(tensor)
        if isinstance(operation, keras.layers.InputLayer):
            return None
        linear = isinstance(operation, keras.layers.Activation) and (
            operation.activation is keras.activations.linear
        )
        passes = linear or isinstance(operation, _PASS)
        if is_graph(operation):
            found = final_operation(operation)
            if found is not None:
                return found
        elif not passes:
            return operation
        tensor = keras_internals.calls(operation)[index].input_tensors[0]


def ends_in_sigmoid(model: keras.Model) -> bool:
    """Returns whether each output of a classifier is a probability of its own."""
    operation = final_operation(model)
    sigmoids = (keras.activations.sigmoid, keras.activations.hard_sigmoid)
    return isinstance(operation, keras_internals.SIGMOID_OPERATIONS) or (
        getattr(operation, "activation", None) in sigmoids
    )


def to_probabilities(model: keras.Model, outputs: Tensor) -> Tensor:
    """Converts a classifier's outputs to probabilities.

    Args:
        model: As in `output_kind`.
        outputs: Array or tensor of shape `(batch, classes)`, returned by the model.

    Returns:
        Tensor of the same shape: probabilities unchanged, otherwise the softmax of several logits
        or the sigmoid of one.

    Raises:
        ValueError: As in `output_kind`.
    """
    if output_kind(model) == "probabilities":
        return outputs
    outputs = keras.ops.cast(outputs, "float32")
    return keras.ops.sigmoid(outputs) if outputs.shape[-1] == 1 else keras.ops.softmax(outputs)
