"""Loads trained classifiers that a recipe names: `model.weights` and `model.backbone`."""

import dataclasses
import re
from typing import Any

import keras

from keras_spd import applications
from keras_spd.image_model import ImageModel, ModelInfo, find_info
from keras_spd.predict.loading import load_model
from keras_spd.training.copies import float32_policy
from keras_spd.training.fields import Model
from keras_spd.typing import Shape
from keras_spd.weights import find_named
from keras_spd.weights.loading import refuse_hub_address
from keras_spd.weights.paths import variables_by_path


def load_start(weights: str) -> keras.Model | None:
    """Loads the classifier whose weights a recipe starts from, `model.weights`.

    Args:
        weights: Name of shipped weights, or path of a file.

    Returns:
        Keras model; `None` for shipped weights, which are loaded by the constructor, and for a
        `.weights.h5` file, which only holds weights.

    Raises:
        ValueError: If the file does not hold a classifier.
    """
    refuse_hub_address(weights)
    if weights.endswith(".weights.h5") or find_named(weights) is not None:
        return None
    source = load_model(weights)
    if isinstance(source, applications.Detector) or len(source.output_shape) != 2:
        raise ValueError(
            f"A classifier starts from the weights of a classifier. Received: {weights}, whose "
            f"model {source.name!r} is not a classifier."
        )
    return source


def trained_classifier(
    recipe: Model, input_shape: Shape, num_classes: int, source: keras.Model | None
) -> ImageModel:
    """Builds a classifier with the weights and classes of `model.weights`.

    Args:
        recipe: The recipe's `model`. Its `name` is in `applications.CLASSIFIERS`.
        input_shape: `(height, width, 3)` of the data.
        num_classes: Number of classes of the data. A `.weights.h5` file does not record its own
            number, so it must be the same.
        source: What `load_start` returned.

    Returns:
        `ImageModel`. Its `info` has the class names and preprocessing of the weights.

    Raises:
        ValueError: If the weights do not belong to this classifier.
    """
    weights, constructor = str(recipe.weights), applications.CLASSIFIERS[recipe.name]
    options = {"input_shape": input_shape, **recipe.options}
    info = ModelInfo()
    classes: int | None = num_classes if weights.endswith(".weights.h5") else None
    if source is not None:
        classes, info = source.output_shape[-1], find_info(source) or info
    with float32_policy():
        model = constructor(weights=recipe.weights, classes=classes, **options)
    if classes is None:
        info = model.info
    # Images have the size and the largest value of the data.
    preprocessing = dataclasses.replace(info.preprocessing, size=None, max_value=None, outputs=None)
    model.info = dataclasses.replace(
        model.info, class_names=info.class_names, preprocessing=preprocessing
    )
    return model


def load_backbone(source: str) -> keras.Model:
    """Loads a trained classifier as the backbone of a detector.

    Args:
        source: `model.backbone` of a recipe: a `.keras` file, such as `model.keras` in the run
            folder of a classifier, or the name of shipped weights.

    Returns:
        `ResNetSPDBackbone` of the same depth for a ResNet-SPD or its strided twin; any other
        network is returned unchanged.

    Raises:
        ValueError: If the file does not exist, or holds a detector.
    """
    trained = load_model(source)
    if isinstance(trained, applications.Detector):
        raise ValueError(
            "A backbone is a classifier, or a network from images to features. Received: "
            f"model.backbone={source!r}, the detector {trained.name!r}. A detector starts from a "
            "detector with `model.weights`, on the command line `--weights`."
        )
    info = find_info(trained) or ModelInfo()
    resnet = re.fullmatch(r"ResNet(\d+)SPD", info.architecture or "")
    if resnet is None:
        return trained
    options = _resnet_options(trained)
    return applications.ResNetSPDBackbone(int(resnet[1]), weights=source, **options)


def _resnet_options(model: keras.Model) -> dict[str, Any]:
    """Returns the arguments of `ResNetSPDBackbone` that a trained ResNet was built with."""
    paths = variables_by_path(model.layers)
    options: dict[str, Any] = {"downsampling": "spd"}
    if "stem_conv/conv/kernel" not in paths:
        stem = model.get_layer("stem_conv")
        options = {"downsampling": "strided", "stem_stride": stem.strides[0]}
    if any(path.endswith("_shortcut_conv/conv/kernel") for path in paths):
        options["shortcut"] = "spd"
    return options
