"""What a conversion will do, layer by layer, before anything is done."""

import dataclasses
import math

import keras

from keras_spd import keras_internals
from keras_spd.detection.detector import Detector
from keras_spd.surgery import graph, rules
from keras_spd.surgery.cost import multiply_adds_at


@dataclasses.dataclass(frozen=True)
class Site:
    """A layer that strides or pools.

    Args:
        path: Its name, behind those of the nested models it is in: `"encoder/conv1"`.
        layer: Name of its class.
        becomes: What takes its place, or `None` if it stays.
        note: Why it stays; or what should be known of the new layers.
        exact: Whether the outputs stay the same.
        parameters: Its parameters before and after.
        multiply_adds: Those for one image, before and after; `None` where sizes are not known.
    """

    path: str
    layer: str
    becomes: str | None
    note: str
    exact: bool
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `to_spd` does to a model. Printed, it is a table.

    Args:
        model: Name of the model.
        sites: A `Site` for every layer that strides or pools, in the order of the network.
        parameters: Parameters of the whole model before and after.
    """

    model: str
    sites: tuple[Site, ...]
    parameters: tuple[int, int]

    @property
    def converted(self):
        """The sites that are converted."""
        return tuple(site for site in self.sites if site.becomes)

    @property
    def kept(self):
        """The sites that stay as they are."""
        return tuple(site for site in self.sites if not site.becomes)

    def __str__(self):
        rows = [("layer", "is", "becomes", "parameters", "multiply-adds", "note")]
        for site in self.sites:
            rows.append(
                (
                    site.path,
                    site.layer,
                    site.becomes or "stays",
                    _change(site.parameters),
                    _change(site.multiply_adds),
                    site.note,
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if any(site.multiply_adds is None for site in self.sites):
            lines.append("?: depends on the size of the image; pass `input_shape`.")
        before, after = self.parameters
        lines.append(
            f"{self.model}: {len(self.converted)} layers are converted, {len(self.kept)} stay; "
            f"{before:,} parameters become {after:,}."
        )
        return "\n".join(lines)


def plan(model, *, layers=None, first_n=None, pooling="keep", depthwise="spd", input_shape=None):
    """Lists what `to_spd` would do to a model, and changes nothing.

    Args:
        model, layers, first_n, pooling, depthwise, input_shape: As in `keras_spd.to_spd`.
            Multiply-adds are known where the size of the image is.

    Returns:
        `Plan`. Print it.

    Raises:
        ValueError: As `keras_spd.to_spd`.

    Example:

    >>> print(keras_spd.surgery.plan(keras.applications.ResNet50(weights=None)))
    """
    if isinstance(model, Detector):
        model = model.network
    graph.check_graph(model, "plan")
    if input_shape is not None:
        model = graph.resize(model, input_shape)
    return make_plan(model, layers, first_n, rules.Options(pooling, depthwise))[0]


def make_plan(model, layers, first_n, options):
    """Returns the `Plan`, and `{id(layer): Replacement}` for the layers it converts."""
    chosen = _chooser(model, layers, first_n)
    sites, replacements = [], {}
    for path, layer in graph.walk(model):
        reason = _stays_anyway(layer)
        if not rules.is_strided(layer) and reason is None:
            continue
        before = layer.count_params() if isinstance(layer, keras.layers.Layer) else 0
        kernel = multiply_adds_at(layer)
        replacement = None
        if reason is None:
            try:
                replacement = rules.replace(layer, graph.input_shapes(layer), options)
                reason = chosen(path, layer)
            except rules.Unconvertible as error:
                if not callable(layers) and {path, layer.name} & _as_set(layers):
                    raise ValueError(f"`{path}` cannot be converted: {error}.") from None
                reason = str(error)
        if reason is None:
            replacements[id(layer)] = replacement
        else:
            replacement = None
        sites.append(
            Site(
                path=path,
                layer=type(layer).__name__,
                becomes=replacement.name if replacement else None,
                note=replacement.note if replacement else reason,
                exact=replacement.exact if replacement else True,
                parameters=(before, replacement.parameters if replacement else before),
                multiply_adds=_multiply_adds(layer, kernel, replacement),
            )
        )
    parameters = model.count_params()
    grown = sum(site.parameters[1] - site.parameters[0] for site in sites)
    return Plan(model.name, tuple(sites), (parameters, parameters + grown)), replacements


def _stays_anyway(layer):
    """Says why a layer that downsamples, but by no stride of its own, stays; `None` for others."""
    kind = type(layer).__name__
    if kind == "GetItem" and (steps := _steps(layer)):
        return f"a slice with steps {steps}, which skips pixels"
    if not isinstance(layer, keras.layers.Layer) or rules.is_strided(layer):
        return None
    if "Pooling" in kind and type(layer).__module__.startswith("keras."):
        return "global, no window" if "Global" in kind else "no stride"
    inside = [part.name for part in keras_internals.nested_layers(layer) if rules.is_strided(part)]
    if inside:
        return f"{', '.join(inside)} is inside a {kind}, whose call is no graph of layers"
    return None


def _steps(operation):
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


def _chooser(model, layers, first_n):
    """Returns a function that says why a layer is not chosen, and `None` if it is."""
    if first_n is not None and (isinstance(first_n, bool) or not isinstance(first_n, int)):
        raise ValueError(f"`first_n` must be an integer. Received: first_n={first_n!r}.")
    predicate = layers
    if layers is not None and not callable(layers):
        names = _as_set(layers)
        strided = [(path, layer) for path, layer in graph.walk(model) if rules.is_strided(layer)]
        called = {id(layer): _names(path) for path, layer in strided}
        known = set().union(*called.values())
        if unknown := sorted(names - known):
            raise ValueError(
                f"`layers` names {unknown}, which are no strided layers of `{model.name}`. These "
                f"are: {[path for path, _ in strided]}."
            )

        def predicate(layer):
            return bool(names & called[id(layer)])

    count = 0

    def reason(path, layer):
        nonlocal count
        if predicate is not None and not predicate(layer):
            return "not among `layers`"
        count += 1
        return f"`first_n={first_n}`" if first_n is not None and count > first_n else None

    return reason


def _as_set(names):
    return {names} if isinstance(names, str) else set(names or ())


def _names(path):
    """What a layer may be called: its path, its name, and the models it is nested in."""
    parts = path.split("/")
    return {path, *parts, *("/".join(parts[:end]) for end in range(1, len(parts)))}


def _multiply_adds(layer, kernel, replacement):
    positions = 0
    first = getattr(layer, "data_format", None) == "channels_first"
    for shape in graph.output_shapes(layer):
        sides = shape[2:] if first else shape[1:-1]
        if None in sides:
            return None
        positions += math.prod(sides)
    return positions * kernel, positions * (replacement.kernel if replacement else kernel)


def _change(pair):
    if pair is None:
        return "?"
    before, after = map(_short, pair)
    return before if before == after else f"{before} -> {after}"


def _short(number):
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
