"""Freezes layers for the first epochs of a run."""

import collections
import difflib
import logging
from collections.abc import Sequence
from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.detection.detector import Detector
from keras_spd.surgery import graph

_log = logging.getLogger(__name__)
# Prefixes of layers in the neck and head. On a backbone that uses the others, they are "detector_".
_NECK_AND_HEAD = ("lateral_", "top_down_", "bottom_up_", "head_", "tower_", "detector")


def freeze(model: keras.Model, names: Sequence[str]) -> list[keras.layers.Layer]:
    """Freezes layers of a model: neither weights nor batch norm statistics change.

    A frozen batch norm uses its moving statistics, as in inference. Compile the model afterwards.

    Args:
        model: `Detector` or functional model.
        names: Names of layers; prefixes, for all layers of a stage (`"stage2"` for
            `"stage2_down_conv"`); or `"backbone"`, for all layers except neck and head of a
            detector, or except the last layer with weights of a classifier.

    Returns:
        The layers that were trainable before, for making them trainable again.

    Raises:
        ValueError: If there is no such layer, or no layer is left to train.
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


def warn_of_initial_weights(
    start: keras.Model, frozen: Sequence[keras.layers.Layer], from_weights: bool
) -> None:
    """Warns if frozen layers have initial weights, which they would keep.

    Args:
        start: The model that a run starts with.
        frozen: Layers that are frozen.
        from_weights: Whether the run starts from trained weights.
    """
    if not frozen:
        return
    parts = getattr(start, "initialised_parts", ())
    found = {part for part in parts for layer in frozen if layer.name.startswith(f"{part}_")}
    if not from_weights:
        _log.warning(
            "`freeze.layers` freezes layers with random weights: start from trained weights "
            "(`model.weights`, `--weights`)."
        )
    elif found:
        _log.warning(
            "`freeze.layers` freezes %s, initialised with random weights that other layers then "
            "depend on. Name the layers with trained weights instead, such as "
            '`freeze.layers=["stem", "stage2", "stage3"]`.',
            ", ".join(sorted(found)),
        )


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
        f"There are: {', '.join(stages[:12])}{', ...' if len(stages) > 12 else ''}. "
        '"backbone" names all except neck and head of a detector, or the last of a classifier.'
    )


def carry_over(old: Any, new: Any, variables: Sequence[keras.Variable]) -> None:
    """Copies the state of an optimizer to one with more variables.

    Steps and momentum are copied. New variables start with a momentum of 0, and with their values
    as moving average.

    Args:
        old: Optimizer of some of the variables.
        new: Optimizer of the same class and options, built for all variables.
        variables: Trainable variables of the model, in the order in which `new` was built.
    """
    inner = getattr(new, "inner_optimizer", new)  # of a `LossScaleOptimizer`
    if inner.use_ema:
        averages = keras_internals.averaged_variables(inner)
        for variable, average in zip(variables, averages, strict=True):
            average.assign(variable)
    known = _by_name(old)
    for key, variable in _by_name(new).items():
        if key in known:
            variable.assign(known[key])


def _by_name(optimizer: keras.optimizers.Optimizer) -> dict[tuple[str, int], keras.Variable]:
    """Returns `{(name, index among variables of that name): variable}`."""
    counts: collections.Counter[str] = collections.Counter()
    variables = {}
    for variable in optimizer.variables:
        variables[variable.name, counts[variable.name]] = variable
        counts[variable.name] += 1
    return variables
