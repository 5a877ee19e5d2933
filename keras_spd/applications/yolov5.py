"""YOLOv5-SPD and its strided twin, YOLOv5 v6.0: the constructors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_spd import keras_internals
from keras_spd.applications import given_backbone, yolov5_network
from keras_spd.applications.arguments import check_class_names
from keras_spd.applications.decoupled_head import decoupled_head
from keras_spd.applications.trained import find_trained
from keras_spd.boxes import check_box_format
from keras_spd.checks import check_choice, check_integer
from keras_spd.detection.detector import Detector
from keras_spd.detection.heads import HEADS
from keras_spd.detection.heads.decoupled import DecoupledHead
from keras_spd.image_model import ImageModel, ModelInfo
from keras_spd.images.preprocessing import Preprocessing
from keras_spd.typing import Path, Shape
from keras_spd.variants import YOLOV5S, YOLOV5Variant
from keras_spd.weights import find_preset, load_weights
from keras_spd.weights.transfer import transfer, transfer_backbone


def YOLOV5SPD(
    size: str | Sequence[float] = "n",
    *,
    weights: Path | None = None,
    classes: int | None = None,
    class_names: Sequence[str] | None = None,
    class_map: Mapping[str, str] | None = None,
    input_shape: Shape | None = (None, None, 3),
    include_rescaling: bool = True,
    head: str = "yolov5",
    levels: Sequence[str] = ("P3", "P4", "P5"),
    anchors: Mapping[str, Any] | None = None,
    downsampling: str = "spd",
    bounding_box_format: str = "xyxy",
    backbone: keras.Model | None = None,
    name: str | None = None,
) -> Detector:
    """Builds YOLOv5-SPD, a detector for small objects, or its strided twin.

    `model(images)` returns raw predictions, `{"P3": (batch, height / 8, width / 8, 3,
    5 + classes), "P4": ..., "P5": ...}`, with the paper's head. `model.predict(images)` returns
    keras-cv's detection dictionary of `boxes`, `confidence`, `classes` and `num_detections`, after
    NMS. `model.compile()` without arguments uses the paper's optimizer and the head's loss.
    `model.fit` takes batches of
    `(images, {"boxes": (batch, boxes, 4), "classes": (batch, boxes)})`, padded with boxes of class
    -1, as from `keras_spd.data`.

    Args:
        size: `"n"`, `"s"`, `"m"`, `"l"`, `"x"`, or a pair of a depth and a width multiple.
        weights: `None` for random weights; the name of shipped weights, such as `"bccd"` (see
            `keras_spd.list_models`); or the path of a trained detector of this size: `.keras`,
            YOLOv5 (v6.0 to v7.0) or the authors' YOLOv5-SPD as `.pt`, `.pth` or `.safetensors`,
            or `.weights.h5` of exactly this network. Weights of strided networks are converted to
            SPD exactly; SPD weights only fit a strided network if they ignore the pixels that a
            stride skips. Anchors and class names come from the file; a `.weights.h5` file has none.
        classes: Integer, the number of classes; defaults to that of the weights, or to 80.
        class_names: One name for each class. Boxes and objectness are always loaded; class
            outputs are loaded for classes with the same name and initialised for the others. If
            the model or the weights have no names, all class outputs are loaded if their number
            matches.
        class_map: `{class: class of the weights}` for names that differ, such as
            `{"vessel": "boat"}`.
        input_shape: `(height, width, 3)`, with `None` for sides that vary. Sides must be multiples
            of the largest stride, 32 with P5. Ignored with `backbone`, which has its own.
        include_rescaling: Boolean, whether images are pixels 0..255, as in keras-cv. If not, they
            are 0..1 or, with `backbone`, in the range that the backbone takes.
        head: `"yolov5"` for the paper's; `"yolov8"` for YOLOv8's, without anchors; `"retinanet"`
            for RetinaNet's. All use the same backbone and neck, and are used in the same way. The
            last two are trained with keras-cv's label encoder and losses; keras-cv imports
            TensorFlow.
        levels: One or several successive levels of P2 to P5, finest first: each has a head, at
            1/4, 1/8, 1/16 and 1/32 of the resolution. P2 is for objects of a few pixels. Without
            large objects, coarse levels can be dropped: `("P2", "P3", "P4")`. The backbone then
            ends at the coarsest level, with its spatial pyramid pooling (SPPF), and weights are
            loaded into the layers that remain; SPPF is initialised.
        anchors: `{level: ((width, height), ...)}` in pixels, for example from
            `keras_spd.detection.fit_anchors`; `None` for those of the head's authors. YOLOv8's has
            none.
        downsampling: `"spd"`, or `"strided"` for YOLOv5 v6.0. With `backbone`, that of the neck.
        bounding_box_format: Format of ground truth and predictions, a name in
            `keras_spd.boxes.BOX_FORMATS`.
        backbone: Functional model from images to features, with its weights, to use instead of
            YOLOv5's: `ResNetSPDBackbone(18, weights=...)`, or a network without its top that was
            converted by `keras_spd.to_spd`. Its last layers at the resolutions of `levels` feed
            the neck; see `find_pyramid`. It must define its `Preprocessing`, as an
            `ImageModel(..., info=ModelInfo(...))` does; the detector normalises pixels with it.
        name: Name of the model.

    Returns:
        `Detector`.

    Raises:
        ValueError: If an argument is not as described, or a file does not match the network.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=6)
    >>> model.compile()
    >>> model.fit(batches, epochs=100)
    >>> detections = model.predict(images)

    A detector on the backbone of a trained classifier:

    >>> backbone = keras_spd.applications.ResNetSPDBackbone(18, weights="cifar10")
    >>> model = keras_spd.applications.YOLOV5SPD("n", backbone=backbone, classes=6)
    """
    check_choice("head", head, tuple(HEADS))
    check_choice("downsampling", downsampling, ("spd", "strided"))
    check_box_format(bounding_box_format)
    levels = yolov5_network.check_levels(levels)
    variant, size_name = yolov5_network.find_variant(size)
    preset = find_preset(weights, "YOLOV5SPD", size=size_name, downsampling=downsampling)
    if preset is not None and backbone is not None:
        raise ValueError(
            f"The weights {weights!r} are for YOLOv5's own backbone. Omit `weights` or `backbone`."
        )
    trained = find_trained(weights, preset)
    if class_map and trained is None:
        raise ValueError(
            "`class_map` needs `weights` with class names. "
            f"Received: class_map={class_map!r}, weights={weights!r}."
        )
    if isinstance(class_names, Iterable) and not isinstance(class_names, str):
        class_names = tuple(class_names)
        classes = len(class_names) if classes is None else classes
    if classes is None:
        classes = 80 if trained is None else trained.num_classes
    classes = check_integer("classes", classes)
    if trained is not None and class_names is None and classes == trained.num_classes:
        class_names = trained.class_names
    if trained is not None and anchors is None and trained.head == head:
        known = {level: trained.anchors[level] for level in levels if level in trained.anchors}
        anchors = {**HEADS[head].build(levels).anchors, **known}
        if len({len(sizes) for sizes in anchors.values()}) > 1:
            raise ValueError(
                f"The levels of the weights and the new ones differ in their number of anchors: "
                f"{anchors}. Pass `anchors` for all levels."
            )
    chosen = HEADS[head].build(levels, anchors)
    class_names = check_class_names(class_names, classes)
    name = name or f"yolov5_{downsampling}_{size_name}" + ("" if head == "yolov5" else f"_{head}")
    prefix, preprocessing = "", _preprocessing(include_rescaling)
    if backbone is None:
        inputs, features = yolov5_network.backbone(
            variant, input_shape, include_rescaling, downsampling, top=levels[-1]
        )
    else:
        inputs, features, preprocessing = given_backbone.attach(backbone, levels, include_rescaling)
        prefix = given_backbone.free_prefix(backbone)
    combined = yolov5_network.neck(features, variant, levels, downsampling, prefix)
    if isinstance(chosen, DecoupledHead):
        outputs = decoupled_head(combined, chosen, classes, prefix)
    else:
        outputs = yolov5_network.head(combined, chosen.anchors, classes, prefix)
    network = ImageModel(
        inputs,
        outputs,
        name=f"{name}_network",
        info=ModelInfo("YOLOV5SPD", preprocessing=preprocessing),
        pyramid_level_inputs=_layer_names(features | combined),  # heads' inputs, finer levels
    )
    facts: dict[str, Any] = {} if trained is None else trained.image_facts
    info = ModelInfo("YOLOV5SPD", class_names=class_names, preprocessing=preprocessing, **facts)
    model = Detector(network, chosen, bounding_box_format=bounding_box_format, info=info, name=name)
    if trained is not None:
        transfer(trained, model, class_map)
    else:
        load_weights(model, weights)
    return model


def YOLOV5SPDBackbone(
    size: str | Sequence[float] = "n",
    *,
    weights: Path | None = None,
    input_shape: Shape | None = (None, None, 3),
    include_rescaling: bool = True,
    downsampling: str = "spd",
    name: str | None = None,
) -> ImageModel:
    """Builds the backbone of YOLOv5-SPD, for any keras-cv detector.

    Args:
        size, input_shape, include_rescaling, downsampling, name: As in `YOLOV5SPD`.
        weights: As in `YOLOV5SPD`, of this backbone or of a trained detector of this size.

    Output shape:
        `(batch, height / 32, width / 32, channels)`.

    Returns:
        An `ImageModel`. Its `pyramid_level_inputs` maps `"P1"` to `"P5"` to layer names.

    Raises:
        ValueError: If an argument is not as described, or a file does not match the network.

    Example:

    >>> detector = keras_cv.models.RetinaNet(
    ...     num_classes=3,
    ...     bounding_box_format="xyxy",
    ...     backbone=keras_spd.applications.YOLOV5SPDBackbone("n"),
    ... )
    """
    variant, size_name = yolov5_network.find_variant(size)
    model = _backbone_model(
        variant,
        input_shape,
        include_rescaling,
        downsampling,
        name or f"yolov5_{downsampling}_{size_name}_backbone",
    )
    preset = find_preset(weights, "YOLOV5SPD", size=size_name, downsampling=downsampling)
    trained = find_trained(weights, preset, backbone=True)
    if trained is not None:
        transfer_backbone(trained, model)
    else:
        load_weights(model, weights)
    return model


def _backbone_model(
    variant: YOLOV5Variant,
    input_shape: Shape | None,
    include_rescaling: bool,
    downsampling: str,
    name: str,
) -> ImageModel:
    inputs, features = yolov5_network.backbone(
        variant, input_shape, include_rescaling, downsampling
    )
    return ImageModel(
        inputs,
        features["P5"],
        name=name,
        info=ModelInfo("YOLOV5SPDBackbone", preprocessing=_preprocessing(include_rescaling)),
        pyramid_level_inputs=_layer_names(features),
    )


def _layer_names(features: yolov5_network.Features) -> dict[str, str]:
    """Returns the name of the layer that returns each feature map, by level."""
    return {level: keras_internals.origin(feature)[0].name for level, feature in features.items()}


def _preprocessing(include_rescaling: bool) -> Preprocessing:
    return Preprocessing(input_range=(0, 255) if include_rescaling else (0, 1))


# Sizes by the names used in recipes and on the command line.
DETECTORS = {f"yolov5_spd_{size}": size for size in YOLOV5S}
