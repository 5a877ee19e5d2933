"""Adapts a trained model to other classes: outputs of classes with equal names are kept."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_spd import keras_internals
from keras_spd.applications.yolo_blocks import DetectionBias
from keras_spd.detection.anchors import level_stride
from keras_spd.detection.detector import Detector
from keras_spd.detection.heads.decoupled import DecoupledHead
from keras_spd.image_model import ImageModel, ModelInfo
from keras_spd.surgery import graph
from keras_spd.surgery.to_spd import with_network
from keras_spd.weights.class_outputs import describe_new, keep_outputs, match_classes

_log = logging.getLogger(__name__)


def with_classes(
    model: keras.Model, class_names: tuple[str, ...], class_map: Mapping[str, str] | None = None
) -> keras.Model:
    """Copies a detector or classifier and gives the copy these classes.

    Outputs of classes with equal names keep their weights, and so do box and objectness of a
    detector. Outputs of other classes are initialised. If the model has no class names, all
    outputs are kept if the number of classes is the same.

    Args:
        model: `Detector`; or a functional or Sequential classifier that ends in a dense layer, with
            or without an activation after it.
        class_names: One name for each class.
        class_map: `{class: class of the model}` for names that differ.

    Returns:
        `Detector` or `ImageModel`.

    Raises:
        ValueError: If the model's outputs cannot be changed, or `class_map` names unknown classes.

    Example:

    >>> with_classes(model, ("cat", "fox")).info.class_names
    ('cat', 'fox')
    """
    detects = isinstance(model, Detector)
    if not detects:
        graph.check_graph(model, "training.train")
    info = getattr(model, "info", None) or ModelInfo()
    former = model.num_classes if detects else model.output_shape[-1]
    kept = match_classes(
        len(class_names), class_names, model.name, former, info.class_names, class_map
    )
    if len(kept) < len(class_names):
        _log.warning(
            "%s: all weights except %s, which are initialised.",
            model.name,
            describe_new(kept, len(class_names), class_names),
        )
    unchanged = former == len(class_names) and kept == {index: index for index in range(former)}
    if detects:
        heads = {} if unchanged else _heads(model, len(class_names))
        network = _rebuild(model.network, heads, former, kept)
        # Without names first: a detector refuses names that do not fit its number of classes.
        without_names = with_network(model, model.network)
        without_names.info = dataclasses.replace(info, class_names=None)
        copy = with_network(without_names, network)
        copy.info = dataclasses.replace(info, class_names=class_names)
        return copy
    functional = keras.Model(model.inputs, model.outputs, name=model.name)
    heads = {} if unchanged else _classifier_head(functional, len(class_names))
    copy = _rebuild(functional, heads, former, kept)
    return ImageModel(
        copy.inputs,
        copy.outputs[0],
        name=model.name,
        info=dataclasses.replace(info, class_names=class_names),
        pyramid_level_inputs=getattr(model, "pyramid_level_inputs", None),
    )


def _heads(model: Detector, num_classes: int) -> dict[Any, tuple[Any, int]]:
    """Returns `{head: (new head, number of anchors)}`."""
    connections, heads = graph.Connections(model.network), {}
    for level, tensor in model.network.output.items():
        last = keras_internals.origin(tensor)[0]
        if isinstance(last, keras.layers.Concatenate):  # of boxes and classes
            [call] = connections.calls(last)
            last = keras_internals.origin(call.input_tensors[-1])[0]
        head = connections.producer(last)
        if not isinstance(head, keras.layers.Conv2D):
            raise ValueError(
                f"The outputs of `{model.name}` at {level} do not come from a convolution, so "
                f"its classes cannot be changed. It has {model.num_classes}, and the data "
                f"{num_classes}."
            )
        anchors = len(model.head.sides(level))
        filters = head.filters + anchors * (num_classes - model.num_classes)
        new = type(head).from_config({**head.get_config(), "filters": filters})
        if isinstance(model.head, DecoupledHead):
            bias = keras.initializers.Constant(model.head.class_bias(level, num_classes))
        else:
            bias = DetectionBias(num_classes, level_stride(level), head.kernel.shape[2])
        new.bias_initializer = bias
        heads[head] = (new, anchors)
    return heads


def _classifier_head(model: keras.Model, num_classes: int) -> dict[Any, tuple[Any, int]]:
    (layer, _), connections = keras_internals.origin(model.outputs[0]), graph.Connections(model)
    while isinstance(layer, (keras.layers.Activation, keras.layers.Softmax)):
        layer = connections.producer(layer)
    if not isinstance(layer, keras.layers.Dense):
        raise ValueError(
            f"The outputs of `{model.name}` do not come from a dense layer, so its classes "
            f"cannot be changed. It has {model.output_shape[-1]}, and the data {num_classes}. "
            f"Replace its last layers with a `keras.layers.Dense({num_classes})`."
        )
    return {layer: (type(layer).from_config({**layer.get_config(), "units": num_classes}), 1)}


def _rebuild(
    network: keras.Model,
    heads: Mapping[Any, tuple[Any, int]],
    former: int,
    kept: Mapping[int, int],
) -> keras.Model:
    """Copies a network with new heads, which keep the outputs of classes in `kept`."""
    copy = graph.rebuild(network, {id(head): [new] for head, (new, _) in heads.items()})
    for head, (new, anchors) in heads.items():
        for ours, theirs in zip(new.variables, head.variables, strict=True):
            first, trained = (np.array(keras.ops.convert_to_numpy(v)) for v in (ours, theirs))
            before = trained.shape[-1] // anchors - former
            ours.assign(keep_outputs(first, trained, anchors, before, former, kept))
    return copy
