"""Attaches any backbone, a network from images to features, to YOLOv5's neck."""

import itertools
from typing import Any

import keras
from keras import layers

from keras_spd import keras_internals
from keras_spd.applications.yolov5_network import Features
from keras_spd.detection.anchors import level_stride
from keras_spd.detection.detector import Detector
from keras_spd.detection.image_size import check_image_sides
from keras_spd.image_model import find_pyramid, known_preprocessing
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.typing import Tensor


def attach(
    backbone: keras.Model, levels: tuple[str, ...], normalize: bool = True
) -> tuple[keras.KerasTensor, Features, Preprocessing]:
    """Returns the input, features and preprocessing of a backbone.

    Args:
        backbone: Functional model from images to features that defines its `Preprocessing`.
        levels: The levels whose features are needed.
        normalize: Whether to take pixels 0..255 and normalise them in the graph as the backbone
            expects. If not, the input is the backbone's own.

    Returns:
        The input tensor, `{level: features}`, and the `Preprocessing` for this input. A backbone
        that takes pixels is used directly; any other is copied with its weights.

    Raises:
        ValueError: If the backbone has no features for a level, takes images whose sides are not
            multiples of the largest stride, or does not define how its images are normalised.
    """
    if not isinstance(backbone, keras.Model):
        raise ValueError(
            "`backbone` must be a network from images to features, a `keras.Model`. For trained "
            "weights by their name: `backbone=keras_spd.applications.ResNetSPDBackbone(18, "
            f'weights="cifar10")`. Received: backbone={backbone!r}.'
        )
    if isinstance(backbone, Detector):
        raise ValueError(
            f"`backbone` must be a network from images to features. Received: `{backbone.name}`, "
            "a detector. Pass `backbone=detector.network`."
        )
    pyramid = getattr(backbone, "pyramid_level_inputs", None) or find_pyramid(backbone)
    missing = [level for level in levels if level not in pyramid]
    if missing:
        raise ValueError(
            f"`backbone` has no layer at {', '.join(f'1/{level_stride(m)}' for m in missing)} of "
            f"its input's resolution. It has {pyramid}. Append layers of stride 2, or use a "
            "backbone with these levels: for ResNet-SPD, `keras_spd.applications."
            "ResNetSPDBackbone(18, weights=...)`, which takes the weights of a classifier."
        )
    check_image_sides(backbone.input_shape, level_stride(levels[-1]))
    known = known_preprocessing(backbone)
    # Image size and `max_value` come from the detector's data, not from the backbone's.
    preprocessing = Preprocessing(input_range=known.input_range, statistics=known.statistics)
    features = [keras_internals.output_of(backbone, pyramid[level]) for level in levels]
    [inputs] = backbone.inputs
    if normalize and not preprocessing.takes_pixels:
        inputs, features = _with_normalization(backbone, preprocessing, features)
        preprocessing = Preprocessing(input_range=(0, 255))
    return inputs, dict(zip(levels, features, strict=True)), preprocessing


def _with_normalization(
    backbone: keras.Model, preprocessing: Preprocessing, features: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Returns an input for pixels, and the features of a copy of the backbone."""
    [old] = backbone.inputs
    pixels = keras.Input(batch_shape=old.shape, name="images")
    scale, offset = preprocessing.scale_and_offset()
    taken = _names(backbone)
    numbered = (f"normalize_{number}" for number in itertools.count(1))
    name = next(n for n in itertools.chain(["normalize"], numbered) if n not in taken)
    normalized = layers.Rescaling(scale, offset, dtype="float32", name=name)(pixels)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Tensor:
        args, kwargs = keras.tree.map_structure(
            lambda x: normalized if x is pixels else x, (args, kwargs)
        )
        return layer(*args, **kwargs)

    network = keras.Model(old, features)
    copy = keras.models.clone_model(
        network,
        input_tensors=pixels,
        clone_function=keras_internals.copy_layer,
        call_function=call,
    )
    for layer in (layer for layer in network.layers if layer.weights):
        copied = copy.get_layer(layer.name)
        copied.set_weights(layer.get_weights())
        pairs = zip(*map(_with_weights, (layer, copied)), strict=True)
        for old_part, new_part in pairs:  # the layer first, then those inside it
            new_part.trainable = old_part.trainable
        keras_internals.finalize_state(copied)
    return copy.inputs[0], copy.outputs


def _with_weights(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return [part for part in keras_internals.nested_layers(layer) if part.weights]


def free_prefix(backbone: keras.Model) -> str:
    """Returns a prefix for the layers of neck and head that avoids name clashes with `backbone`.

    It is empty unless the backbone is itself the network of a detector.
    """
    names = _names(backbone)
    parts = ("lateral_", "top_down_", "bottom_up_", "head_", "tower_")
    prefixes = itertools.chain(["", "detector_"], (f"detector{n}_" for n in itertools.count(2)))
    return next(
        prefix
        for prefix in prefixes
        if not any(name.startswith(prefix + part) for name in names for part in parts)
    )


def _names(backbone: keras.Model) -> set[str]:
    sequential = isinstance(backbone, keras.Sequential)
    return {layer.name for layer in (backbone.layers if sequential else backbone.operations)}
