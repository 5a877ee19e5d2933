"""Grad-CAM: the regions of an image that support a class.

References:
    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-Based
    Localization", ICCV 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.
"""

from collections.abc import Mapping

import keras
import numpy as np
from PIL import Image

from keras_spd.explain import layout
from keras_spd.explain.activations import before_activation, gradient, intercepted, record, to_numpy
from keras_spd.explain.feature_maps import find_layer, level_layers
from keras_spd.explain.network_input import (
    NetworkInput,
    check_class,
    check_classifier,
    class_name,
    class_probabilities,
    prepare,
)
from keras_spd.images.fonts import drawable
from keras_spd.typing import Array, Path, Tensor


def grad_cam(
    model: keras.Model,
    image: Path | Array,
    class_index: int | None = None,
    layer_name: str | None = None,
) -> Array:
    """Computes a heat map of the regions of an image that support a class.

    Each feature map of a layer is weighted by the mean gradient of the class logit with respect to
    it. Negative values of the weighted sum are set to 0.

    Args:
        model: Classifier: `ImageModel`, or another functional or Sequential model, on TensorFlow,
            JAX or PyTorch.
        image: As in `feature_maps`.
        class_index: Integer; `None` for the class with the highest score.
        layer_name: Name of the layer; in a nested model `"model/layer"`. Defaults to the last
            feature map. For small images it is coarse (2x2 in a ResNet18-SPD at 32x32), and an
            earlier layer shows more.

    Returns:
        float32 array of shape `(height, width)`, the size of the image, values 0..1 with a
        maximum of 1; all zeros if nothing supports the class.

    Raises:
        ValueError: If the model is not a classifier, the class or layer does not exist, or the
            layer's output is not a feature map.

    Example:

    >>> heat = keras_spd.explain.grad_cam(model, "frog.png", layer_name="stage3_block2_out")
    """
    check_classifier(model, "grad_cam")
    given = prepare(model, image)
    if layer_name is None:
        layer = list(level_layers(model, given).values())[-1]
    else:
        layer = find_layer(given.network, layer_name)
    return upsample(compute_cam(given, layer, class_index), given)


def compute_cam(
    given: NetworkInput, layer: keras.layers.Layer, class_index: int | None = None
) -> Array:
    """Computes Grad-CAM for a `NetworkInput`, at the resolution of a layer."""
    network, batch = given.network, given.batch
    with before_activation(network):
        scores, found = record(network, batch, {"layer": layer})
        features = found["layer"]
        if len(getattr(features, "shape", ())) != 4:
            raise ValueError(
                f"The output of the layer {layer.name!r} is not a feature map of shape (batch, "
                f"height, width, channels), but {tuple(getattr(features, 'shape', ()))}. Pass an "
                "earlier layer as `layer_name`."
            )
        values = to_numpy(scores)[0]
        class_index = (
            int(values.argmax()) if class_index is None else check_class(class_index, len(values))
        )

        def score(change: Tensor) -> Tensor:
            with intercepted(layer, lambda value: value + change):
                return network(batch, training=False)[0, class_index]

        slopes = gradient(score, keras.ops.zeros_like(features))[0]
    heat = np.maximum((to_numpy(features)[0] * slopes.mean(axis=(0, 1))).sum(axis=-1), 0)
    return (heat / (heat.max() or 1)).astype("float32")


def upsample(heat: Array, given: NetworkInput) -> Array:
    """Resizes a map of the network's input to the original image, without a letterbox's margins."""
    height, width = given.original.shape[:2]
    box = None
    if given.fit is not None:
        [corners] = given.fit.to_network([[0, 0, width, height]])
        corners = corners.clip(0, np.tile(given.pixels.shape[1::-1], 2))  # rounding: -1e-14
        scale = np.divide(heat.shape[::-1], given.pixels.shape[1::-1])
        box = tuple((corners * np.tile(scale, 2)).tolist())
    resized = Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR, box)
    values = np.asarray(resized).clip(0, 1)
    return values / (values.max() or 1)


def draw_grad_cam(
    models: keras.Model | Mapping[str, keras.Model],
    image: Path | Array,
    class_index: int | None = None,
) -> Image.Image:
    """Draws Grad-CAM at each resolution of one or more classifiers over the same image.

    Args:
        models: A model, or `{name: model}`.
        image: As in `feature_maps`.
        class_index: As in `grad_cam`; `None` for the class that each model predicts.

    Returns:
        `PIL.Image.Image`, with a row for each model. Red regions support the class most; regions
        without support keep their colours.

    Raises:
        ValueError: As in `grad_cam`.

    Example:

    >>> twins = {"SPD": spd, "strided": strided}
    >>> keras_spd.explain.draw_grad_cam(twins, "frog.png").save("grad_cam.png")
    """
    rows = []
    for name, model in layout.named_models(models).items():
        check_classifier(model, "grad_cam")
        given = prepare(model, image)
        probabilities = class_probabilities(model, given)
        index = int(probabilities.argmax())
        if class_index is not None:
            index = check_class(class_index, len(probabilities))
        height, width = given.original.shape[:2]
        pictures = [
            layout.captioned(f"{width} x {height}", [layout.tile(given.original, layout.CAM)])
        ]
        for level, layer in level_layers(model, given).items():
            heat = compute_cam(given, layer, index)
            pictures.append(
                layout.captioned(
                    f"{level}: {heat.shape[1]} x {heat.shape[0]}",
                    [layout.overlay(given.original, upsample(heat, given))],
                )
            )
        pictures.append(layout.captioned("scale", [layout.heat_scale()]))
        label = drawable(class_name(model, index), index)
        title = f"{name}: Grad-CAM for {label} (probability {probabilities[index]:.2f})"
        rows.append(layout.captioned(title, pictures, columns=len(pictures), bold=True))
    return layout.side_by_side([rows])
