"""Conversion of a network: SPD-Conv in place of strides, with what it has learned."""

import keras

from keras_spd.detection.detector import Detector
from keras_spd.surgery import graph, rules
from keras_spd.surgery.plan import make_plan


def to_spd(
    model,
    *,
    layers=None,
    first_n=None,
    pooling="keep",
    depthwise="spd",
    input_shape=None,
):
    """Replaces strided convolutions by SPD-Conv, and keeps what the model computes.

    A strided convolution becomes space-to-depth and a convolution without stride. Its kernel holds
    the old taps, each at the phase of the pixel that it was for, and zeros: the converted network
    computes what the original computed, and is free to learn more. Sizes that a stride does not
    divide are aligned at run time (`PhaseAlignment`).

    Args:
        model: Functional or Sequential Keras model, with nested ones; or a
            `keras_spd.applications.Detector`. It is left as it is.
        layers: Names of the layers to convert, their paths (`"encoder/conv1"`), or names of nested
            models, for all in them; or a function from layer to boolean. All by default.
        first_n: Integer: convert no more than the first so many of them.
        pooling: What strided pooling becomes. `"keep"`: it stays. `"learned"`: an `SPDConv` that
            starts at the average; in place of a maximum, it changes the outputs. `"exact"`:
            `PhasePooling`, which pools at every pixel and keeps one phase of that: no window is
            strided, but it costs 4 times as much and drops what a stride of 2 drops.
        depthwise: `"spd"` converts depthwise and separable convolutions, which makes a TFLite
            file slow; `"keep"` leaves them.
        input_shape: `(height, width, channels)` of the new model, if other than the old one's.

    Returns:
        An uncompiled model of the same class, with the same layer names, trainable flags, dtype
        policies and regularisers, named `..._to_spd`. `keras_spd.surgery.plan` lists what was
        done, and what stays and why.

    Raises:
        ValueError: If the model is not as described, a name in `layers` is unknown or that of a
            layer that cannot be converted, or a layer's weights do not fit `input_shape`.

    Example:

    >>> model = keras.applications.ResNet50(weights="imagenet", include_top=False)
    >>> spd = keras_spd.to_spd(model)  # the same features; now fine-tune it

    Source: sections 3 and 6 of the paper ("can be applied in most if not all CNN
    architectures"); `keras_spd.algebra.strided_to_spd`.
    """
    options = rules.Options(pooling, depthwise)
    if isinstance(model, Detector):
        network = to_spd(
            model.network,
            layers=layers,
            first_n=first_n,
            pooling=pooling,
            depthwise=depthwise,
            input_shape=input_shape,
        )
        changed = network.name != model.network.name
        return with_network(model, network, _converted_name(model.name) if changed else model.name)
    graph.check_graph(model, "to_spd")
    if input_shape is not None:
        model = graph.resize(model, input_shape)
    plan, replacements = make_plan(model, layers, first_n, options)
    converted = graph.rebuild(
        model, {key: replacement.layers for key, replacement in replacements.items()}
    )
    for replacement in replacements.values():
        replacement.assign()
    _check(converted, plan)
    if plan.converted:
        converted.name = _converted_name(model.name)
    return converted


def with_network(detector: Detector, network: keras.Model, name: str | None = None) -> Detector:
    """Returns a detector with another network, and with another name if one is given."""
    config = {**detector.get_config(), "network": keras.saving.serialize_keras_object(network)}
    config["name"] = name or detector.name
    copy = type(detector).from_config(config)
    copy.network.set_weights(network.get_weights())
    return copy


def _converted_name(name: str) -> str:
    """Returns the name of a converted model, which is no longer the original's."""
    return f"{name.removesuffix('_to_spd')}_to_spd"


def _check(converted, plan):
    """Looks for strides again: nothing may be left that the plan does not name."""
    kept = {site.path for site in plan.kept}
    left = [path for path, layer in graph.walk(converted) if rules.is_strided(layer)]
    if missed := sorted(set(left) - kept):
        raise RuntimeError(f"Strided layers were left without notice: {missed}.")
