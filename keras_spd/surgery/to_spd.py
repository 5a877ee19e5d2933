"""Replaces the strided layers of a trained network with SPD-Conv, with the same outputs."""

import keras

from keras_spd.detection.detector import Detector
from keras_spd.surgery import graph, rules
from keras_spd.surgery.plan import Layers, Plan, make_plan, resized
from keras_spd.typing import Shape


def to_spd(
    model: keras.Model,
    *,
    layers: Layers = None,
    first_n: int | None = None,
    pooling: str = "keep",
    depthwise: str = "spd",
    input_shape: Shape | None = None,
) -> keras.Model:
    """Replaces strided convolutions with SPD-Conv, without changing the outputs of the model.

    A strided convolution becomes space-to-depth and a convolution without stride. The new kernel
    holds the old weights, each at the phase of the pixel it was applied to, and zeros: the
    converted network computes the same outputs, and training can use the added weights. Sizes that
    the stride does not divide are padded at run time (`PhaseAlignment`).

    Args:
        model: Functional or Sequential Keras model, which may contain nested models, or a
            `keras_spd.applications.Detector`. It is not changed.
        layers: Layers to convert: names, paths (`"encoder/conv1"`), names of nested models (all
            their layers), or a function from layer to boolean. Defaults to all.
        first_n: Integer, to convert only the first `first_n` of these layers.
        pooling: What to do with strided pooling. `"keep"` keeps it. `"learned"` replaces it by an
            `SPDConv` initialised as an average, which changes the outputs of max pooling.
            `"exact"` replaces it by `PhasePooling`, which pools at every pixel and keeps one
            phase: no window is strided, but it costs 4 times as much and still drops three of
            four phases at a stride of 2.
        depthwise: `"spd"` converts depthwise and separable convolutions, which makes TFLite files
            slower; `"keep"` keeps them.
        input_shape: `(height, width, channels)` of the new model; defaults to the old one's.

    Returns:
        An uncompiled model: a `Detector`, `ImageModel` or Sequential model if `model` is one,
        otherwise a `keras.Model`. It is named `..._to_spd` and has the same layer names, trainable
        flags, dtype policies and regularisers. `keras_spd.surgery.plan` lists what is converted,
        and what is kept and why.

    Raises:
        ValueError: If the model is not as described, a name in `layers` is unknown or its layer
            cannot be converted, or a layer's weights do not fit `input_shape`.
        RuntimeError: If a strided layer remains that the plan does not list.

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
    model, layers = resized(model, layers, input_shape)
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
    """Returns the detector with another network and, if given, another name."""
    options = detector.head, detector.bounding_box_format, detector.info, detector.decoder
    return type(detector)(network, *options, name or detector.name)


def _converted_name(name: str) -> str:
    """Returns the name of a converted model."""
    return f"{name.removesuffix('_to_spd')}_to_spd"


def _check(converted: keras.Model, plan: Plan) -> None:
    """Raises a `RuntimeError` if a strided layer remains that the plan does not list."""
    kept = {layer.path for layer in plan.kept}
    left = [path for path, layer in graph.walk(converted) if rules.is_strided(layer)]
    if missed := sorted(set(left) - kept):
        raise RuntimeError(f"Strided layers remain that the plan does not list: {missed}.")
