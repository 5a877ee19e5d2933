"""Feature maps of a network at each resolution, as arrays and as a picture."""

import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from PIL import Image

from keras_spd import keras_internals
from keras_spd.applications import Detector, ImageModel
from keras_spd.checks import check_integer
from keras_spd.explain import layout
from keras_spd.explain.activations import feature_layers, record, to_numpy
from keras_spd.explain.network_input import NetworkInput, prepare
from keras_spd.surgery.graph import Connections, walk
from keras_spd.typing import Array, Path

_MERGES = (keras.layers.Add, keras.layers.Concatenate)


def feature_maps(
    model: keras.Model, image: Path | Array, layer_names: str | Sequence[str] | None = None
) -> dict[str, Array]:
    """Computes the feature maps of layers of a network for one image.

    Args:
        model: `Detector`, or a functional or Sequential classifier or backbone.
        image: Any image that `keras_spd.images.to_rgb` accepts, which is resized (letterboxed for
            a detector) and normalised as defined by the model's `info`; or a float array of shape
            `(height, width, 3)`, which is passed to the network unchanged.
        layer_names: Name of a layer, or several; in nested models `"model/layer"`. Defaults to one
            layer for each resolution: the pyramid levels of an `ImageModel`; for a detector, the
            inputs of its heads and the finer levels of the backbone; for other models, the last
            activation, addition or concatenation.

    Returns:
        Dictionary of arrays of shape `(height, width, channels)`, by layer name, or by default by
        level, finest first: `"P3"` is `2**3` times smaller than the network's input.

    Raises:
        ValueError: If a layer does not exist or its output is not a feature map, or the image
            cannot be used.

    Example:

    >>> maps = keras_spd.explain.feature_maps(model, "frog.png")
    >>> {level: array.shape for level, array in maps.items()}
    {'P1': (16, 16, 64), 'P2': (8, 8, 128), 'P3': (4, 4, 256), 'P4': (2, 2, 512)}
    """
    return compute_maps(model, prepare(model, image), layer_names)


def compute_maps(
    model: keras.Model, given: NetworkInput, layer_names: str | Sequence[str] | None = None
) -> dict[str, Array]:
    """`feature_maps` for a `NetworkInput`."""
    if layer_names is None:
        layers = level_layers(model, given)
    else:
        names = [layer_names] if isinstance(layer_names, str) else layer_names
        layers = {name: find_layer(given.network, name) for name in names}
    _, found = record(given.network, given.batch, layers)
    for name in layers:
        if len(getattr(found[name], "shape", ())) != 4:
            raise ValueError(
                f"The output of the layer {name!r} is not a feature map of shape (batch, height, "
                f"width, channels), but {tuple(getattr(found[name], 'shape', ()))}."
            )
    return {name: to_numpy(found[name])[0] for name in layers}


def find_layer(network: keras.Model, name: str) -> keras.layers.Layer:
    """Returns the layer with a path, or with a name that is unique in the network."""
    layers = dict(walk(network))
    if name in layers:
        return layers[name]
    matching = [path for path in layers if path.endswith(f"/{name}")]
    if len(matching) == 1:
        return layers[matching[0]]
    some = ", ".join(matching or list(layers)[-8:])
    raise ValueError(
        f"There is no layer {name!r} in `{network.name}`"
        + (f", but several end with it: {some}." if matching else f". Its last layers: {some}.")
    )


def level_layers(model: keras.Model, given: NetworkInput) -> dict[str, keras.layers.Layer]:
    """Returns a layer for each resolution, `{"P1": layer, ...}`, finest first."""
    if isinstance(model, Detector):
        return _detector_layers(model)
    if isinstance(model, ImageModel) and model.pyramid_level_inputs:
        layers = {
            level: model.get_layer(name) for level, name in model.pyramid_level_inputs.items()
        }
        return dict(sorted(layers.items()))
    layers = _last_layers(given)
    if not layers:
        raise ValueError(f"`{model.name}` has no feature maps at 1/1, 1/2, 1/4 ... of its input.")
    return layers


def _last_layers(given: NetworkInput) -> dict[str, keras.layers.Layer]:
    """Returns the last layer of each resolution, preferably one that ends a block."""
    last, last_of_block = {}, {}
    side = max(given.batch.shape[1:3])
    for layer, (height, width, _) in feature_layers(given.network, given.batch):
        level = math.log2(side / max(height, width))
        # Sides are rounded where they are odd, so a level is only about an integer.
        if min(height, width) > 1 and abs(level - round(level)) < 0.2 and level > -0.5:
            last[f"P{round(level)}"] = layer
            if _ends_block(layer):
                last_of_block[f"P{round(level)}"] = layer
    return dict(sorted((last | last_of_block).items()))


def _ends_block(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is a merge or an activation, which end a block."""
    if isinstance(layer, _MERGES):
        return True
    activation = getattr(layer, "activation", None)
    activates = activation is not None and activation is not keras.activations.linear
    return activates or keras_internals.is_activation_layer(layer)


def _detector_layers(model: Detector) -> dict[str, keras.layers.Layer]:
    """Returns the layers before a detector's heads, and the finer levels of YOLOv5's backbone."""
    connections = Connections(model.network)
    paths, layers = dict(walk(model.network)), {}
    for level in model.levels:
        names = (f"head_{level.lower()}_conv", f"tower_{level.lower()}_box1_conv")
        # The last one: in files of earlier versions, a backbone may have heads of its own.
        head = [path for path in paths if path.endswith(names)][-1]
        layers[level] = connections.producer(paths[head])
    finer = (("P1", "stem"), ("P2", "stage2_c3"), ("P3", "stage3_c3"), ("P4", "stage4_c3"))
    is_yolov5 = any(path.startswith("stage2_c3") for path in paths)  # a ResNet also has a stem
    for level, prefix in finer if is_yolov5 else ():
        inside = [layer for path, layer in paths.items() if path.startswith(prefix)]
        if inside and level not in layers:
            layers[level] = inside[-1]
    return dict(sorted(layers.items()))


def draw_feature_maps(
    models: keras.Model | Mapping[str, keras.Model],
    image: Path | Array,
    layer_names: str | Sequence[str] | None = None,
    *,
    channels: int = 8,
) -> Image.Image:
    """Draws feature maps of one or more networks for the same image, side by side.

    For each layer, the channels with the largest variance over the image are drawn, largest first,
    each scaled from its 1st percentile (dark) to its 99th (bright). Channels of different networks
    do not correspond; compare how much of the image is visible.

    Args:
        models: A model, or `{name: model}`.
        image, layer_names: As in `feature_maps`.
        channels: Integer, how many channels of each layer to draw, in rows of four.

    Returns:
        `PIL.Image.Image`.

    Raises:
        ValueError: As in `feature_maps`, or if `channels` is not positive.

    Example:

    >>> twins = {"SPD": spd, "strided": strided}
    >>> keras_spd.explain.draw_feature_maps(twins, "frog.png").save("maps.png")
    """
    channels = check_integer("channels", channels)
    models = layout.named_models(models)
    columns, keys = [], []
    for model in models.values():
        given = prepare(model, image)
        maps = compute_maps(model, given, layer_names)
        keys += [key for key in maps if key not in keys]
        columns.append((given, maps))
    keys = keys if layer_names else sorted(keys)
    grid = [[_input_picture(name, given)] for name, (given, _) in zip(models, columns, strict=True)]
    for column, (given, maps) in zip(grid, columns, strict=True):
        column += [_level_pictures(key, maps.get(key), given, channels) for key in keys]
    return layout.side_by_side(grid)


def _input_picture(name: str, given: NetworkInput) -> Image.Image:
    height, width = given.pixels.shape[:2]
    return layout.captioned(
        f"{name}: input {width} x {height}", [layout.tile(given.pixels, layout.LARGE)], bold=True
    )


def _level_pictures(
    key: str, array: Array | None, given: NetworkInput, channels: int
) -> Image.Image:
    if array is None:
        return layout.captioned(f"{key}: none in this network", [])
    height, width, count = array.shape
    chosen = varied_channels(array, channels)
    factor = round(max(given.pixels.shape[:2]) / max(height, width))
    title = f"{key}: 1/{factor}, {width} x {height}, {len(chosen)} of {count} channels"
    return layout.captioned(
        title, [layout.tile(layout.colour(array[..., index])) for index in chosen]
    )


def varied_channels(array: Array, count: int) -> Array:
    """Returns the indices of the channels with the largest variance, the largest first."""
    return np.argsort(-array.var(axis=(0, 1)), kind="stable")[:count]
