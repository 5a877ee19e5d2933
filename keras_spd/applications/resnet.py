"""ResNet-SPD and its strided twins.

References:
    Sunkara and Luo, "No More Strided Convolutions or Pooling", ECML PKDD 2022, section 4.2,
    https://arxiv.org/abs/2208.03641, and its code, LabSAINT/SPD-Conv (`ResNet18-SPD`,
    `ResNet50-SPD`).
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
    https://arxiv.org/abs/1512.03385, table 1.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from keras_spd.applications import blocks
from keras_spd.applications.arguments import (
    check_image_data_format,
    check_input_shape,
    image_input,
)
from keras_spd.applications.trained_backbone import start_from_classifier
from keras_spd.checks import check_choice, check_integer
from keras_spd.image_model import ImageModel, ModelInfo
from keras_spd.typing import Path, Shape, Tensor
from keras_spd.variants import RESNETS
from keras_spd.weights import (
    Preset,
    check_weights_file,
    find_preset,
    load_preset,
    load_weights,
)
from keras_spd.weights.keras_file import load_keras_file

_ARGUMENTS = """
    Inputs are RGB images normalised with `keras_spd.applications.preprocess_input`; the network
    does not normalise them itself. Only `"channels_last"` is supported.

    This constructor builds three networks:

    - The default is the network of the authors' code, which their checkpoints fit. Every
      strided 3x3 convolution becomes one of stride 1 followed by space-to-depth, but the shortcuts
      still have a strided 1x1 convolution, which reads one pixel in four.
    - `shortcut="spd"` is the network that the paper describes ("eliminates them altogether"), with
      no strided convolution and no pooling window.
    - `downsampling="strided"` is the strided twin that the authors compare with. Its stem keeps
      the full resolution, so it costs 2.1 to 3.5 times as much as the SPD network. With
      `stem_stride=2` it has the same resolutions as the SPD network, for a fair comparison.

    Args:
        include_top: Boolean, whether to end in global average pooling and a dense classifier.
        weights: `None` for random weights; the name of shipped weights, such as `"cifar10"` (see
            `keras_spd.list_models`); or the path of a file: `.weights.h5` or `.keras` of this
            network, or `.pt`, `.pth` or `.safetensors` of the authors' PyTorch network. A `.keras`
            file also gives the model its class names and preprocessing. With `include_top=False`,
            the classifier in the file is ignored.
        input_tensor: Optional Keras tensor to build on.
        input_shape: `(height, width, 3)`, with `None` for sides that vary. Defaults to
            `(None, None, 3)`.
        pooling: `None`, `"avg"` or `"max"`: global pooling of the last feature map if
            `include_top=False`.
        classes: Integer, the number of classes; defaults to that of shipped weights or of a
            `.keras` file, or to 1000.
        classifier_activation: Activation of the classifier; `None` for logits.
        name: Name of the model.
        downsampling: `"spd"` or `"strided"`.
        stem_stride: 1 or 2, the stride of the stem if `downsampling="strided"`; defaults to 1.
            (The stem of the SPD network is a space-to-depth, so its stride is 2.)
        shortcut: `"strided"` or `"spd"`, how shortcuts are downsampled.

    Input shape:
        `(batch, height, width, 3)`.

    Output shape:
        `(batch, classes)`. With `include_top=False`: `(batch, height / 16, width / 16, channels)`
        (height / 8 with `downsampling="strided"` and `stem_stride=1`), or `(batch, channels)` with
        `pooling`.

    Returns:
        An `ImageModel`: a functional Keras model whose `info` holds class names and preprocessing,
        and whose `pyramid_level_inputs` names the last layer at each stride (`"P3"`: stride 8).

    Raises:
        ValueError: If an argument is not as described, or a file does not match the network.
"""


def _check_downsampling(downsampling: str, stem_stride: int | None, shortcut: str) -> int:
    """Checks how a network downsamples, and returns the stride of its stem."""
    check_image_data_format()
    check_choice("downsampling", downsampling, ("spd", "strided"))
    check_choice("shortcut", shortcut, ("strided", "spd"))
    if downsampling == "spd":
        check_choice("stem_stride", stem_stride, (None, 2))
        return 2
    check_choice("stem_stride", stem_stride, (None, 1, 2))
    return stem_stride or 1


def _features(
    x: Tensor, depth: int, downsampling: str, stem_stride: int, shortcut: str, extra_stages: int = 0
) -> tuple[Tensor, dict[str, str]]:
    """Returns the last feature map, and the name of the last layer at each pyramid level."""
    variant = RESNETS[depth]
    x = _stem(x, downsampling, stem_stride)
    stage_blocks = variant.blocks + (1,) * extra_stages
    levels, total_stride = {}, stem_stride
    for stage, num_blocks in enumerate(stage_blocks, start=1):
        for block in range(1, num_blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            total_stride *= stride
            x = blocks.residual_block(
                x,
                min(64 * 2 ** (stage - 1), 512),
                f"stage{stage}_block{block}",
                bottleneck=variant.bottleneck,
                stride=stride,
                downsampling=downsampling,
                shortcut=shortcut,
            )
        levels[f"P{int(math.log2(total_stride))}"] = f"stage{stage}_block{num_blocks}_out"
    return x, levels


def _classifier(
    x: Tensor, classes: int, activation: str | Callable[..., Any] | None
) -> keras.KerasTensor:
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dense(classes, kernel_initializer=blocks.initializer(), name="logits")(x)
    # Probabilities and the loss are computed in float32 under mixed precision.
    return layers.Activation(activation, dtype=_at_least_float32(), name="predictions")(x)


def _check_classes(classes: int | None, known: int | None, weights: Path | None) -> int:
    """Returns the number of classes; `known` is that of the weights."""
    if known is None:
        return check_integer("classes", 1000 if classes is None else classes)
    if classes not in (None, known):
        raise ValueError(
            f"If using `weights={str(weights)!r}` with `include_top=True`, `classes` must be "
            f"{known}. Received: classes={classes!r}. For your own classes, pass "
            "`include_top=False` and add a head."
        )
    return known


def _find_trained(weights: Path | None, preset: Preset | None) -> ImageModel | None:
    """Returns the classifier in a `.keras` file; `None` for other weights."""
    if weights is None or preset is not None or not str(weights).endswith(".keras"):
        return None
    model = load_keras_file(check_weights_file(weights), compile=False)
    return model if isinstance(model, ImageModel) and len(model.outputs[0].shape) == 2 else None


def _take_info(model: ImageModel, trained: ImageModel | None, weights: Any) -> None:
    """Gives a model the classes and preprocessing of the one whose weights it has."""
    if trained is None:
        return
    if model.pyramid_level_inputs != trained.pyramid_level_inputs:
        raise ValueError(
            f"{weights} does not fit `{model.name}`: it downsamples at other layers, "
            f"{trained.pyramid_level_inputs} instead of {model.pyramid_level_inputs}. Build it "
            "with the same `stem_stride`."
        )
    # This model's last activation may be another one.
    preprocessing = dataclasses.replace(trained.info.preprocessing, outputs=None)
    model.info = dataclasses.replace(
        model.info, class_names=trained.info.class_names, preprocessing=preprocessing
    )


def _info_of(preset: Preset) -> ModelInfo:
    return ModelInfo(
        architecture=preset.architecture,
        class_names=preset.class_names,
        statistics=preset.statistics,
        image_size=preset.image_size,
    )


def _stem(x: Tensor, downsampling: str, stem_stride: int) -> Tensor:
    if downsampling == "spd":
        x = blocks.spd_conv(x, 64, 1, "stem_conv")
        x = blocks.batch_norm(x, "stem_bn")
        # The authors' ResNets take their stem, with its SiLU, from YOLOv5.
        return layers.Activation("silu", name="stem_silu")(x)
    x = blocks.conv(x, 64, 3, "stem_conv", strides=stem_stride)
    x = blocks.batch_norm(x, "stem_bn")
    return layers.ReLU(name="stem_relu")(x)


def _at_least_float32() -> str:
    compute_dtype = keras.config.dtype_policy().compute_dtype
    return "float32" if compute_dtype in ("float16", "bfloat16") else compute_dtype


def _constructor(depth: int) -> Callable[..., ImageModel]:
    def constructor(
        include_top: bool = True,
        weights: Path | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: Shape | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: str | Callable[..., Any] | None = "softmax",
        name: str | None = None,
        *,
        downsampling: str = "spd",
        stem_stride: int | None = None,
        shortcut: str = "strided",
    ) -> ImageModel:
        architecture = f"ResNet{depth}SPD"
        stem_stride = _check_downsampling(downsampling, stem_stride, shortcut)
        check_choice("pooling", pooling, (None, "avg", "max"))
        preset = find_preset(
            weights,
            architecture,
            downsampling=downsampling,
            stem_stride=stem_stride,
            shortcut=shortcut,
        )
        trained = _find_trained(weights, preset) if include_top else None
        known = None if preset is None else len(preset.class_names)
        if trained is not None:
            known = trained.output_shape[-1]
        num_classes = _check_classes(classes, known, weights) if include_top else 0
        check_input_shape(input_shape)

        inputs, x = image_input(input_tensor, input_shape)
        x, levels = _features(x, depth, downsampling, stem_stride, shortcut)
        if include_top:
            x = _classifier(x, num_classes, classifier_activation)
        elif pooling == "avg":
            x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        elif pooling == "max":
            x = layers.GlobalMaxPooling2D(name="max_pool")(x)
        name = name or f"resnet{depth}_{downsampling}"
        info = ModelInfo(architecture=architecture)
        if preset is not None and include_top:
            info = _info_of(preset)
        model = ImageModel(inputs, x, name=name, info=info, pyramid_level_inputs=levels)
        if not include_top:
            start_from_classifier(model, weights, preset)
        elif preset is not None:
            own = [one for one in model.layers if one.name.startswith(("stem_", "stage", "logits"))]
            load_preset(own, preset)
        else:
            load_weights(model, weights)
            _take_info(model, trained, weights)
        return model

    constructor.__name__ = constructor.__qualname__ = f"ResNet{depth}SPD"
    constructor.__doc__ = (
        f"Builds ResNet{depth}-SPD, or its strided twin.\n{_ARGUMENTS}\n"
        "    Example:\n\n"
        f"    >>> model = keras_spd.applications.ResNet{depth}SPD("
        "weights=None, classes=10, input_shape=(32, 32, 3))\n"
    )
    return constructor


# Constructors by the names used in recipes and on the command line.
CLASSIFIERS = {f"resnet{depth}_spd": _constructor(depth) for depth in RESNETS}
ResNet18SPD = CLASSIFIERS["resnet18_spd"]
ResNet34SPD = CLASSIFIERS["resnet34_spd"]
ResNet50SPD = CLASSIFIERS["resnet50_spd"]
ResNet101SPD = CLASSIFIERS["resnet101_spd"]
ResNet152SPD = CLASSIFIERS["resnet152_spd"]


def ResNetSPDBackbone(
    depth: int = 18,
    *,
    weights: Path | None = None,
    input_shape: Shape | None = None,
    name: str | None = None,
    downsampling: str = "spd",
    stem_stride: int | None = None,
    shortcut: str = "strided",
) -> ImageModel:
    """Builds a ResNet-SPD without a classifier, with pyramid levels up to P5 for detectors.

    A ResNet-SPD ends at P4. Stages of one block with 512 filters are added up to stride 32, which
    `keras_cv.models.RetinaNet` and `keras_cv.models.YOLOV8Detector` expect from their `backbone`.

    Args:
        depth: 18, 34, 50, 101 or 152.
        weights: As in `ResNet18SPD`: of a classifier of this depth, or of this backbone. Stages
            that a classifier lacks keep their random weights. A `.weights.h5` file must be of
            exactly this backbone.
        input_shape, name, downsampling, stem_stride, shortcut: As in `ResNet18SPD`.

    Output shape:
        `(batch, height / 32, width / 32, channels)`.

    Returns:
        An `ImageModel`. Its `pyramid_level_inputs` maps `"P1"` (`"P0"` with a stem of stride 1) to
        `"P5"` to layer names.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> backbone = ResNetSPDBackbone(18, weights="cifar10")  # or "runs/first/model.keras"
    >>> detector = keras_spd.applications.YOLOV5SPD("n", backbone=backbone, classes=3)
    """
    check_choice("depth", depth, tuple(RESNETS))
    architecture = f"ResNet{depth}SPD"
    stem_stride = _check_downsampling(downsampling, stem_stride, shortcut)
    preset = find_preset(
        weights,
        architecture,
        downsampling=downsampling,
        stem_stride=stem_stride,
        shortcut=shortcut,
    )
    check_input_shape(input_shape)

    inputs, x = image_input(None, input_shape)
    extra_stages = 2 if stem_stride == 1 else 1
    x, levels = _features(x, depth, downsampling, stem_stride, shortcut, extra_stages)
    name = name or f"resnet{depth}_{downsampling}_backbone"
    info = ModelInfo(architecture=architecture)
    model = ImageModel(inputs, x, name=name, info=info, pyramid_level_inputs=levels)
    start_from_classifier(model, weights, preset)
    return model
