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
    pooling="exact",
    depthwise="spd",
    input_shape=None,
):
    """Replaces strided convolutions and pooling by SPD-Conv, and keeps what the model computes.

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
        pooling: What strided pooling becomes. `"exact"`: pooling at every pixel and one phase of
            that, without parameters. `"learned"`: an `SPDConv` that starts at the average; in
            place of a maximum, it changes the outputs. `"keep"`: it stays.
        depthwise: `"spd"` converts depthwise and separable convolutions, which makes a TFLite
            file slow; `"keep"` leaves them.
        input_shape: `(height, width, channels)` of the new model, if other than the old one's.

    Returns:
        An uncompiled model of the same class, with the same layer names, trainable flags, dtype
        policies and regularisers. `keras_spd.surgery.plan` lists what was done, and what stays
        and why.

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
        return with_network(model, network)
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
    return converted


def with_network(detector, network):
    """Returns a detector with another network."""
    config = {**detector.get_config(), "network": keras.saving.serialize_keras_object(network)}
    copy = type(detector).from_config(config)
    copy.network.set_weights(network.get_weights())
    return copy


def _check(converted, plan):
    """Looks for strides again: nothing may be left that the plan does not name."""
    kept = {site.path for site in plan.kept}
    left = [path for path, layer in graph.walk(converted) if rules.is_strided(layer)]
    if missed := sorted(set(left) - kept):
        raise RuntimeError(f"Strided layers were left without notice: {missed}.")
