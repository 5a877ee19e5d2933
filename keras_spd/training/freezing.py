"""Layers that stay as they are for the first epochs of a run, and are trained after these."""

import collections
import difflib
from collections.abc import Sequence
from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.detection.detector import Detector
from keras_spd.surgery import graph

# Neck and head of a detector; a prefix goes before these where its backbone has such names.
_NECK_AND_HEAD = ("lateral_", "top_down_", "bottom_up_", "head_", "detector")


def freeze(model: keras.Model, names: Sequence[str]) -> list[keras.layers.Layer]:
    """Freezes layers of a model: their weights and batch norm statistics stay as they are.

    A frozen batch norm normalises by its moving statistics, as in inference. Compile the model
    afterwards.

    Args:
        model: `Detector` or functional model.
        names: Names of layers; of stages, for all layers whose names begin so (`"stage2"` for
            `"stage2_down_conv"`); or `"backbone"`, for all but neck and head of a detector or the
            last layer with weights of a classifier.

    Returns:
        The layers that were trainable before, to be made trainable again.

    Raises:
        ValueError: If there is no such layer, or nothing is left to train.
    """
    network = model.network if isinstance(model, Detector) else model
    layers = [
        (path, layer)
        for path, layer in graph.walk(network)
        if isinstance(layer, keras.layers.Layer) and layer.weights
    ]
    frozen: dict[int, keras.layers.Layer] = {}
    for name in names:
        found = _find(layers, name, detects=isinstance(model, Detector))
        if not found:
            raise ValueError(_unknown(name, [path for path, _ in layers]))
        frozen |= {id(layer): layer for layer in found if layer.trainable}
    if all(id(layer) in frozen or not layer.trainable for _, layer in layers):
        raise ValueError(
            f"`freeze.layers` leaves nothing of `{model.name}` to train. Received: {list(names)}."
        )
    for layer in frozen.values():
        layer.trainable = False
    return list(frozen.values())


def _find(
    layers: Sequence[tuple[str, keras.layers.Layer]], name: str, detects: bool
) -> list[keras.layers.Layer]:
    if name != "backbone":
        return [
            layer
            for path, layer in layers
            if path == name or path.startswith((f"{name}_", f"{name}/"))
        ]
    if detects:
        return [layer for path, layer in layers if not path.startswith(_NECK_AND_HEAD)]
    return [layer for _, layer in layers[:-1]]


def _unknown(name: str, paths: Sequence[str]) -> str:
    stages = list(dict.fromkeys(path.split("/")[0].split("_")[0] for path in paths))
    close = difflib.get_close_matches(name, [*paths, *stages], n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return (
        f"`freeze.layers` must name layers or stages of the model. Received: {name!r}. {hint}"
        f'"backbone" is all but the neck and head, and there are: {", ".join(stages[:12])}.'
    )


def carry_over(old: Any, new: Any, variables: Sequence[keras.Variable]) -> None:
    """Lets an optimizer of more variables continue where another one stopped.

    Steps and momentum are taken over; variables that the other one did not have start with a
    momentum of 0, and their moving average at their values.

    Args:
        old: Optimizer of some of the variables.
        new: Optimizer of the same class and options, built for all of them.
        variables: Trainable variables of the model, in the order `new` was built with.
    """
    inner = getattr(new, "inner_optimizer", new)  # that of a `LossScaleOptimizer`
    if inner.use_ema:
        averages = keras_internals.averaged_variables(inner)
        for variable, average in zip(variables, averages, strict=True):
            average.assign(variable)
    known = _by_name(old)
    for key, variable in _by_name(new).items():
        if key in known:
            variable.assign(known[key])


def _by_name(optimizer: keras.optimizers.Optimizer) -> dict[tuple[str, int], keras.Variable]:
    """Returns the optimizer's variables by name, and by number where some share one."""
    counts: collections.Counter[str] = collections.Counter()
    variables = {}
    for variable in optimizer.variables:
        variables[variable.name, counts[variable.name]] = variable
        counts[variable.name] += 1
    return variables
