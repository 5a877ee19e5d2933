"""All uses of Keras' private API, and the version they were tested with."""

from collections.abc import Iterator
from typing import Any

import keras

from keras_spd.typing import Tensor

TESTED = {"Keras": "3.15", "TensorFlow": "2.21"}  # as in pyproject.toml


def check_version(package: str, version: str) -> None:
    """Raises an `ImportError` unless this version of a package was tested.

    Args:
        package: `"Keras"` or `"TensorFlow"`.
        version: Its version, such as `"3.15.1"`.
    """
    tested, command = TESTED[package], package.lower()
    if version.split(".")[:2] != tested.split("."):
        raise ImportError(
            f"keras_spd uses parts of {package} that change between versions, and was tested with "
            f"{package} {tested}. Received: {package} {version}. "
            f'Run `pip install "{command}=={tested}.*"`, or install a keras_spd version for that '
            f"{package}."
        )


check_version("Keras", keras.__version__)
if keras.backend.backend() == "tensorflow":
    import tensorflow  # Keras has imported it

    check_version("TensorFlow", tensorflow.__version__)


# Graph operations have no public names. These only change shape or dtype.
RESHAPING_OPERATIONS = (
    keras.src.ops.core.Cast,
    keras.src.ops.numpy.Reshape,
    keras.src.ops.numpy.Squeeze,
)
# These return probabilities.
SIGMOID_OPERATIONS = (keras.src.ops.nn.Sigmoid, keras.src.ops.nn.HardSigmoid)
PROBABILITY_OPERATIONS = (keras.src.ops.nn.Softmax, *SIGMOID_OPERATIONS)
# As the last operation of a classifier, these return logits.
LINEAR_OPERATIONS = (
    keras.src.ops.numpy.Add,
    keras.src.ops.numpy.Divide,  # by a temperature
    keras.src.ops.numpy.Matmul,
    keras.src.ops.numpy.Mean,
    keras.src.ops.numpy.Multiply,
    keras.src.ops.numpy.Subtract,
    keras.src.ops.numpy.TrueDivide,
)
# These put tensors together.
JOINING_OPERATIONS = (
    keras.src.ops.numpy.Concatenate,
    keras.src.ops.numpy.Stack,
)


def is_functional(layer: Any) -> bool:
    """Returns whether a layer is a functional model that computes its graph and nothing else."""
    functional = keras.src.models.functional.Functional
    return isinstance(layer, functional) and type(layer).call is functional.call


def is_activation_layer(layer: Any) -> bool:
    """Returns whether a layer is one of Keras' activation layers, such as `ReLU`."""
    return type(layer).__module__.startswith("keras.src.layers.activations")


def calls(operation: Any) -> list[Any]:
    """Returns the nodes of all calls of a layer or operation, in any graph."""
    return operation._inbound_nodes


def graph_calls(model: keras.Model) -> list[Any]:
    """Returns the nodes of all calls in a functional or Sequential model, except its inputs."""
    functional = model._functional if isinstance(model, keras.Sequential) else model
    nodes = (node for level in functional._nodes_by_depth.values() for node in level)
    return [node for node in nodes if not node.is_input]


def output_of(model: keras.Model, name: str) -> Tensor:
    """Returns the output of a layer in a model, also if the layer is called elsewhere as well."""
    return next(node.outputs[0] for node in graph_calls(model) if node.operation.name == name)


def origin(tensor: Tensor) -> tuple[Any, int]:
    """Returns the operation that produced a symbolic tensor, and the index of the call."""
    return tensor._keras_history[:2]


def nested_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields a layer and all layers inside it."""
    yield from layer._flatten_layers()


def build_metrics(model: keras.Model, batch: Any) -> None:
    """Creates the variables of a compiled model's loss, metrics and optimizer.

    Args:
        model: Compiled Keras model.
        batch: `(images, targets)` of `keras.KerasTensor`.
    """
    model._symbolic_build(data_batch=batch)


def skip_metric_build_in_fit(model: keras.Model) -> None:
    """Makes `fit` skip building the metrics, which `build_metrics` has done."""
    model._maybe_symbolic_build = lambda *args, **kwargs: None


def sum_gradients_before_clipping(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer clip the gradients of all TensorFlow replicas together.

    Keras clips those of each replica, and then sums them.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    total, clip = optimizer._all_reduce_sum_gradients, optimizer._clip_gradients
    optimizer._clip_gradients = lambda grads: clip([g for g, _ in total([(g, g) for g in grads])])
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


def check_gradients_of_all_replicas(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes a `LossScaleOptimizer` skip a step if gradients of any TensorFlow replica overflow.

    Keras looks at those of the first replica, as if they were the sum.
    """
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return
    check = type(optimizer).check_finite

    def check_all(grads: list[Tensor]) -> Tensor:
        import tensorflow as tf

        overflows = 1.0 - tf.cast(check(optimizer, grads), tf.float32)
        return tf.distribute.get_replica_context().all_reduce("SUM", overflows) < 0.5

    optimizer.check_finite = check_all


def averaged_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """Returns the moving averages of an optimizer with `use_ema`, one for each variable."""
    return optimizer._model_variables_moving_average


def variable_index(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> int:
    """Returns the index of a trainable variable in an optimizer's slot lists."""
    return optimizer._get_variable_index(variable)


def variable_name(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> str:
    """Returns the Keras name of a trainable variable, such as `"kernel"`.

    On TensorFlow, `update_step` receives its variable, which has another name: `"conv/kernel:0"`.
    """
    return optimizer._trainable_variables[variable_index(optimizer, variable)].name


def uses_weight_decay(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    """Returns whether weight decay applies: `exclude_from_weight_decay` did not name it."""
    return optimizer._use_weight_decay(variable)


def finalize_state(model: Any) -> None:
    """Lets preprocessing layers derive their constants from weights that were assigned."""
    for layer in nested_layers(model):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def copy_layer(layer: Any) -> Any:
    """Returns a new layer or operation with the config of an old one, without its weights.

    Keras builds no Python lambdas from configs, which could come from a file.
    """
    if type(layer) is keras.layers.Lambda:
        functions = layer.function, layer._output_shape, layer.mask, layer.arguments
        return keras.layers.Lambda(*functions, name=layer.name, dtype=layer.dtype_policy)
    return type(layer).from_config(layer.get_config())
