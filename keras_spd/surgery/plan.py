"""Lists what a conversion would do, layer by layer."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import keras

from keras_spd import keras_internals
from keras_spd.checks import check_integer
from keras_spd.detection.detector import Detector
from keras_spd.surgery import graph, rules
from keras_spd.surgery.cost import multiply_adds_at
from keras_spd.typing import Shape

Layers: TypeAlias = str | Iterable[str] | Callable[[Any], bool] | None
"""Which layers to convert: names, paths or a predicate; `None` for all."""


@dataclasses.dataclass(frozen=True)
class PlannedLayer:
    """A layer that strides or pools.

    Args:
        path: Names of the nested models that contain it, then its own: `"encoder/conv1"`.
        type: Name of its class.
        becomes: The layers that replace it, or `None` if it is kept.
        note: Why it is kept, or a remark on the new layers.
        exact: Whether its outputs are unchanged.
        parameters: Number of its parameters, before and after.
        multiply_adds: Multiply-adds for one image, before and after; `None` if sizes are unknown.
    """

    path: str
    type: str
    becomes: str | None
    note: str
    exact: bool
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The changes that `to_spd` makes to a model. `print` shows them as a table.

    Args:
        model: Name of the model.
        layers: A `PlannedLayer` for every layer that strides or pools, in network order.
        parameters: Number of parameters of the whole model, before and after.
    """

    model: str
    layers: tuple[PlannedLayer, ...]
    parameters: tuple[int, int]

    @property
    def converted(self) -> tuple[PlannedLayer, ...]:
        """The layers that are converted."""
        return tuple(layer for layer in self.layers if layer.becomes)

    @property
    def kept(self) -> tuple[PlannedLayer, ...]:
        """The layers that are kept."""
        return tuple(layer for layer in self.layers if not layer.becomes)

    def __str__(self) -> str:
        rows = [("layer", "is", "becomes", "parameters", "multiply-adds", "note")]
        for layer in self.layers:
            rows.append(
                (
                    layer.path,
                    layer.type,
                    layer.becomes or "kept",
                    _change(layer.parameters),
                    _change(layer.multiply_adds),
                    layer.note,
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if any(layer.multiply_adds is None for layer in self.layers):
            lines.append("?: depends on the size of the image; pass `input_shape`.")
        before, after = self.parameters
        count = len(self.converted)
        what = "1 layer is" if count == 1 else f"{count} layers are"
        lines.append(
            f"{self.model}: {what} converted, {len(self.kept)} kept; "
            f"{before:,} parameters become {after:,}."
        )
        return "\n".join(lines)


def plan(
    model: keras.Model,
    *,
    layers: Layers = None,
    first_n: int | None = None,
    pooling: str = "keep",
    depthwise: str = "spd",
    input_shape: Shape | None = None,
) -> Plan:
    """Lists what `to_spd` would do to a model, without changing it.

    Args:
        model, layers, first_n, pooling, depthwise, input_shape: As in `keras_spd.to_spd`.
            Multiply-adds are listed if the image size is known.

    Returns:
        `Plan`. Print it.

    Raises:
        ValueError: As in `keras_spd.to_spd`.

    Example:

    >>> print(keras_spd.surgery.plan(keras.applications.ResNet50(weights=None)))
    """
    if isinstance(model, Detector):
        model = model.network
    graph.check_graph(model, "plan")
    model, layers = resized(model, layers, input_shape)
    return make_plan(model, layers, first_n, rules.Options(pooling, depthwise))[0]


def resized(
    model: keras.Model, layers: Layers, input_shape: Shape | None
) -> tuple[keras.Model, Layers]:
    """Returns the model for another input shape; a function in `layers` gets the old layers."""
    if input_shape is None:
        return model, layers
    new = graph.resize(model, input_shape)
    if layers is None or not callable(layers):
        return new, layers
    pairs = zip(graph.walk(model), graph.walk(new), strict=True)
    chosen = {
        id(copy) for (_, layer), (_, copy) in pairs if rules.is_strided(layer) and layers(layer)
    }
    return new, lambda layer: id(layer) in chosen


def make_plan(
    model: keras.Model, layers: Layers, first_n: int | None, options: rules.Options
) -> tuple[Plan, dict[int, rules.Replacement]]:
    """Returns the `Plan`, and `{id(layer): Replacement}` for the layers it converts."""
    if layers is not None and not callable(layers):
        layers = _as_set(layers)  # an iterator can only be read once
    chosen = _chooser(model, layers, first_n)
    planned: list[PlannedLayer] = []
    replacements: dict[int, rules.Replacement] = {}
    for path, layer in graph.walk(model):
        reason = _reason_to_keep(layer)
        if not rules.is_strided(layer) and reason is None:
            continue
        before = layer.count_params() if isinstance(layer, keras.layers.Layer) else 0
        kernel = multiply_adds_at(layer)
        replacement = None
        if reason is None:
            try:
                candidate = rules.replace(layer, graph.input_shapes(layer), options)
            except rules.Unconvertible as error:
                if not callable(layers) and {path, layer.name} & _as_set(layers):
                    raise ValueError(f"`{path}` cannot be converted: {error}.") from None
                reason = str(error)
            else:
                reason = chosen(path, layer)
                if reason is None:
                    replacement = replacements[id(layer)] = candidate
        planned.append(
            PlannedLayer(
                path=path,
                type=type(layer).__name__,
                becomes=replacement.name if replacement else None,
                note=replacement.note if replacement else reason or "",
                exact=replacement.exact if replacement else True,
                parameters=(before, replacement.parameters if replacement else before),
                multiply_adds=_multiply_adds(layer, kernel, replacement),
            )
        )
    parameters = model.count_params()
    grown = sum(layer.parameters[1] - layer.parameters[0] for layer in planned)
    return Plan(model.name, tuple(planned), (parameters, parameters + grown)), replacements


def _reason_to_keep(layer: Any) -> str | None:
    """Returns why a layer that downsamples without its own stride is kept, otherwise `None`."""
    kind = type(layer).__name__
    if kind == "GetItem" and (steps := _steps(layer)):
        return f"a slice with steps {steps}, which skips pixels"
    if not isinstance(layer, keras.layers.Layer) or rules.is_strided(layer):
        return None
    if "Pooling" in kind and type(layer).__module__.startswith("keras."):
        return "global, no window" if "Global" in kind else "no stride"
    inside = [part.name for part in keras_internals.nested_layers(layer) if rules.is_strided(part)]
    if inside:
        return f"{', '.join(inside)} is inside a {kind}, which is not a graph of layers"
    return None


def _steps(operation: Any) -> list[int]:
    keys = [
        keras.tree.flatten((node.arguments.args[1:], node.arguments.kwargs))
        for node in keras_internals.calls(operation)
    ]
    return sorted(
        {
            part.step
            for key in keys
            for part in key
            if isinstance(part, slice) and isinstance(part.step, int) and abs(part.step) > 1
        }
    )


def _chooser(
    model: keras.Model, layers: Layers, first_n: int | None
) -> Callable[[str, Any], str | None]:
    """Returns a function that returns why a layer is not selected, or `None` if it is."""
    if first_n is not None:
        first_n = check_integer("first_n", first_n, smallest=0)
    predicate: Callable[[Any], bool] | None = None
    if callable(layers):
        predicate = layers
    elif layers is not None:
        names = _as_set(layers)
        strided = [(path, layer) for path, layer in graph.walk(model) if rules.is_strided(layer)]
        called = {id(layer): _names(path) for path, layer in strided}
        known = set().union(*called.values())
        if unknown := sorted(names - known):
            raise ValueError(
                f"`layers` names {unknown}, which are not strided layers of `{model.name}`. Its "
                f"strided layers are: {[path for path, _ in strided]}."
            )

        def is_named(layer: Any) -> bool:
            return bool(names & called[id(layer)])

        predicate = is_named

    count = 0

    def reason(path: str, layer: Any) -> str | None:
        nonlocal count
        if predicate is not None and not predicate(layer):
            return "not among `layers`"
        count += 1
        return f"`first_n={first_n}`" if first_n is not None and count > first_n else None

    return reason


def _as_set(names: str | Iterable[str] | None) -> set[str]:
    if not isinstance(names, (Iterable, type(None))):
        raise ValueError(
            f"`layers` must be names, a function of a layer, or `None`. Received: layers={names!r}."
        )
    return {names} if isinstance(names, str) else set(names or ())


def _names(path: str) -> set[str]:
    """Returns the names of a layer: its path, its parts, and the models that contain it."""
    parts = path.split("/")
    return {path, *parts, *("/".join(parts[:end]) for end in range(1, len(parts)))}


def _multiply_adds(
    layer: Any, kernel: int, replacement: rules.Replacement | None
) -> tuple[int, int] | None:
    positions = 0
    first = getattr(layer, "data_format", None) == "channels_first"
    for shape in graph.output_shapes(layer):
        sides = shape[2:] if first else shape[1:-1]
        if None in sides:
            return None
        positions += math.prod(sides)
    return positions * kernel, positions * (replacement.kernel if replacement else kernel)


def _change(pair: tuple[int, int] | None) -> str:
    if pair is None:
        return "?"
    before, after = map(_short, pair)
    return before if before == after else f"{before} -> {after}"


def _short(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
