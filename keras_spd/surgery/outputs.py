"""What a classifier's outputs are: probabilities or logits."""

from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.image_model import find_info
from keras_spd.surgery.graph import is_graph
from keras_spd.typing import Tensor

# They change the form of numbers, or nothing in inference.
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
    """Tells what a classifier returns.

    Args:
        model: Keras model, or another one with `info`. What `info.preprocessing.outputs` says
            counts; if it says nothing, the operation that the outputs come from.

    Returns:
        `"probabilities"` (softmax or sigmoid) or `"logits"`.

    Raises:
        ValueError: If neither says it.
    """
    info = find_info(model)
    if info is not None and info.preprocessing.outputs is not None:
        return info.preprocessing.outputs
    operation = final_operation(model) if is_graph(model) else None
    if isinstance(operation, PROBABILITIES):
        return "probabilities"
    activation = getattr(operation, "activation", None)
    if activation in _ACTIVATIONS:
        return "probabilities"
    if activation is keras.activations.linear or isinstance(operation, _LOGITS):
        return "logits"
    last = "unknown" if operation is None else f"`{operation.name}` ({type(operation).__name__})"
    raise ValueError(
        f"It cannot be seen whether `{model.name}` returns probabilities or logits; its last "
        f"operation is {last}. Say it: `model.info = dataclasses.replace(model.info, "
        'outputs="probabilities")`, or `"logits"`.'
    )


def final_operation(network: keras.Model) -> Any:
    """Returns the operation that decides what the values of a network's first output are.

    Behind it they are only reshaped, cast or passed on. Nested models are opened. `None` if
    nothing is done to the inputs.
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


def to_probabilities(model: keras.Model, outputs: Tensor) -> Tensor:
    """Returns a classifier's outputs as probabilities.

    Args:
        model: As in `output_kind`.
        outputs: Array or tensor of shape `(batch, classes)`, what the model returned.

    Returns:
        Tensor of the same shape: the outputs as they are, or the softmax of logits, the sigmoid of
        a single one.
    """
    if output_kind(model) == "probabilities":
        return outputs
    outputs = keras.ops.cast(outputs, "float32")
    return keras.ops.sigmoid(outputs) if outputs.shape[-1] == 1 else keras.ops.softmax(outputs)
