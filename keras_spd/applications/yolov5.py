"""YOLOv5-SPD and its plain strided twin, YOLOv5 v6.0.

References:
    Sunkara and Luo, "No More Strided Convolutions or Pooling", ECML PKDD 2022, section 4.1,
    https://arxiv.org/abs/2208.03641, and its code, LabSAINT/SPD-Conv (`YOLOv5-SPD`).
"""

import itertools

import keras
from keras import layers

from keras_spd.applications import yolo_blocks as blocks
from keras_spd.applications.arguments import (
    check_choice,
    check_image_data_format,
    check_input_shape,
    check_positive_integer,
)
from keras_spd.applications.trained import find_trained
from keras_spd.boxes import check_box_format
from keras_spd.detection.anchors import level_stride, standardize_anchors
from keras_spd.detection.detector import Detector, check_image_sides
from keras_spd.image_model import ImageModel, ModelInfo, find_pyramid
from keras_spd.variants import YOLOV5S, YOLOV5Variant
from keras_spd.weights import find_preset, load_weights
from keras_spd.weights.transfer import transfer

_LEVELS = (("P3", "P4", "P5"), ("P2", "P3", "P4", "P5"))
# Channels of the large model at each level, and bottlenecks of its backbone's C3 blocks.
_CHANNELS = {"P1": 64, "P2": 128, "P3": 256, "P4": 512, "P5": 1024}
_BLOCKS = {"P2": 3, "P3": 6, "P4": 9, "P5": 3}
_NECK_BLOCKS = 3


def YOLOV5SPD(
    size="n",
    *,
    weights=None,
    classes=None,
    class_names=None,
    class_map=None,
    input_shape=(None, None, 3),
    include_rescaling=True,
    head="yolov5",
    levels=("P3", "P4", "P5"),
    anchors=None,
    downsampling="spd",
    bounding_box_format="xyxy",
    backbone=None,
    name=None,
):
    """Builds YOLOv5-SPD, a detector for small objects, or its plain strided twin.

    `model(images)` returns raw predictions, `{"P3": (batch, height / 8, width / 8, 3,
    5 + classes), "P4": ..., "P5": ...}`; `model.predict(images)` returns keras-cv's detection
    dictionary of `boxes`, `confidence`, `classes` and `num_detections`, after suppression.
    `model.compile()` without arguments takes the paper's optimizer and loss; `model.fit` takes
    batches of `(images, {"boxes": (batch, boxes, 4), "classes": (batch, boxes)})`, padded with
    boxes of class -1, as `keras_spd.data` makes them.

    Args:
        size: `"n"`, `"s"`, `"m"`, `"l"`, `"x"`, or a pair of a depth and a width multiple.
        weights: `None` for random weights; the name of weights that come with the package, such
            as `"bccd"` (see `keras_spd.list_models`); or the path of a trained detector of this
            size: `.keras`, YOLOv5 (v6.0 to v7.0) or the authors' YOLOv5-SPD as `.pt`, `.pth` or
            `.safetensors`, or `.weights.h5` of this very network. Trained strided networks start
            SPD networks exactly; the other way only where nothing reads what a stride skips.
            Anchors and class names come with the file.
        classes: Integer, the number of classes; defaults to that of the weights, or to 80.
        class_names: One name for each class. Class outputs are taken from the weights for classes
            of the same name and start anew for the others, boxes and objectness are kept. Without
            names in one of them, all class outputs are taken if their number is the same.
        class_map: `{class: class of the weights}` where the names differ, such as
            `{"vessel": "boat"}`.
        input_shape: `(height, width, 3)`, with `None` for sides that vary. Sides are multiples of
            32, the largest stride.
        include_rescaling: Boolean: images have pixel values 0..255, as in keras-cv; else 0..1.
        head: `"yolov5"` for the paper's detector. `"yolov8"` and `"retinanet"` return keras-cv's
            own `YOLOV8Detector` and `RetinaNet` on `YOLOV5SPDBackbone`, with keras-cv's losses
            and label encoders; their necks keep strided convolutions.
        levels: `("P3", "P4", "P5")`, or with `"P2"` in front: another head at a quarter of the
            resolution, for objects of a few pixels.
        anchors: `{level: ((width, height), ...)}` in pixels, for example from
            `keras_spd.detection.fit_anchors`; `None` for the authors'.
        downsampling: `"spd"`, or `"strided"` for YOLOv5 v6.0.
        bounding_box_format: Format of ground truth and predictions, any of Keras and keras-cv.
        backbone: Functional model from images to features, with its weights, in place of
            YOLOv5's, for example a classifier converted by `keras_spd.to_spd` and without its
            top. Its last layers at 1/8, 1/16 and 1/32 of the resolution feed the neck; see
            `find_pyramid`. It takes pixels 0..255, or the `info.input_range` of an `ImageModel`.
        name: Name of the model.

    Returns:
        `Detector`; for the other heads, keras-cv's class.

    Raises:
        ValueError: If an argument is not as described, or a file does not fit the network.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=6)
    >>> model.compile()
    >>> model.fit(batches, epochs=100)
    >>> detections = model.predict(images)
    """
    check_choice("head", head, ("yolov5", "yolov8", "retinanet"))
    check_box_format(bounding_box_format)
    levels = _check_levels(levels)
    variant, size_name = _variant(size)
    preset = find_preset(weights, "YOLOV5SPD", size=size_name, downsampling=downsampling)
    if preset is not None and head != "yolov5":
        raise ValueError(f'The weights {weights!r} are for head="yolov5". Received: head={head!r}.')
    if preset is not None and backbone is not None:
        raise ValueError(f"The weights {weights!r} are for YOLOv5's own backbone.")
    trained = find_trained(weights, preset) if head == "yolov5" else None
    if class_map and trained is None:
        raise ValueError(
            "`class_map` needs `weights` that know their classes. "
            f"Received: class_map={class_map!r}, weights={weights!r}."
        )
    if classes is None:
        classes = 80 if trained is None else trained.num_classes
    classes = check_positive_integer("classes", classes)
    if trained is not None and class_names is None and classes == trained.num_classes:
        class_names = trained.class_names
    if head != "yolov5":
        _refuse_with_keras_cv(
            head, anchors=anchors, class_names=class_names, levels=levels, backbone=backbone
        )
    if trained is not None and anchors is None:
        known = {level: trained.anchors[level] for level in levels if level in trained.anchors}
        anchors = {**standardize_anchors(None, levels), **known}
    anchors = standardize_anchors(anchors, levels)
    if class_names is not None and (isinstance(class_names, str) or len(class_names) != classes):
        raise ValueError(
            f"`class_names` must hold one name for each of classes={classes}. "
            f"Received: class_names={class_names!r}."
        )
    name = name or f"yolov5_{downsampling}_{size_name}"
    if head != "yolov5":
        from keras_spd.applications.keras_cv_heads import keras_cv_detector

        backbone = _backbone_model(
            variant, input_shape, include_rescaling, downsampling, f"{name}_backbone"
        )
        model = keras_cv_detector(head, backbone, classes, bounding_box_format, f"{name}_{head}")
        load_weights(model, weights)
        return model
    input_range = _input_range(include_rescaling)
    prefix = ""
    if backbone is None:
        inputs, features = _backbone(variant, input_shape, include_rescaling, downsampling)
    else:
        inputs, features = _given_backbone(backbone, levels)
        prefix = _free_prefix(backbone)
        input_range = getattr(backbone, "info", ModelInfo()).input_range or (0.0, 255.0)
    features = _neck(features, variant, levels, downsampling, prefix)
    outputs = {
        level: blocks.raw_predictions(
            features[level],
            len(anchors[level]),
            classes,
            level_stride(level),
            f"{prefix}head_{level.lower()}",
        )
        for level in levels
    }
    model = Detector(
        keras.Model(inputs, outputs, name=f"{name}_network"),
        anchors,
        bounding_box_format=bounding_box_format,
        info=ModelInfo(
            architecture="YOLOV5SPD",
            class_names=tuple(class_names) if class_names is not None else None,
            input_range=input_range,
            image_size=trained.image_size if trained is not None else None,
        ),
        name=name,
    )
    if trained is not None:
        transfer(trained, model, class_map)
    else:
        load_weights(model, weights)
    return model


def YOLOV5SPDBackbone(
    size="n",
    *,
    weights=None,
    input_shape=(None, None, 3),
    include_rescaling=True,
    downsampling="spd",
    name=None,
):
    """Builds the backbone of YOLOv5-SPD alone, for any detector of keras-cv.

    Args:
        size, input_shape, include_rescaling, downsampling, name: As in `YOLOV5SPD`.
        weights: As in `YOLOV5SPD`, a file of this backbone.

    Output shape:
        `(batch, height / 32, width / 32, channels)`.

    Returns:
        An `ImageModel`. Its `pyramid_level_inputs` maps `"P1"` to `"P5"` to layer names.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> detector = keras_cv.models.RetinaNet(
    ...     num_classes=3,
    ...     bounding_box_format="xyxy",
    ...     backbone=keras_spd.applications.YOLOV5SPDBackbone("n"),
    ... )
    """
    variant, size_name = _variant(size)
    model = _backbone_model(
        variant,
        input_shape,
        include_rescaling,
        downsampling,
        name or f"yolov5_{downsampling}_{size_name}_backbone",
    )
    load_weights(model, weights)
    return model


def _backbone_model(variant, input_shape, include_rescaling, downsampling, name):
    inputs, features = _backbone(variant, input_shape, include_rescaling, downsampling)
    return ImageModel(
        inputs,
        features["P5"],
        name=name,
        info=ModelInfo(
            architecture="YOLOV5SPDBackbone", input_range=_input_range(include_rescaling)
        ),
        pyramid_level_inputs={
            level: feature._keras_history.operation.name for level, feature in features.items()
        },
    )


def _backbone(variant, input_shape, include_rescaling, downsampling):
    """Returns the input and the last feature map of each resolution, `"P1"` to `"P5"`."""
    check_image_data_format()
    check_choice("downsampling", downsampling, ("spd", "strided"))
    check_input_shape(input_shape)
    input_shape = input_shape or (None, None, 3)
    check_image_sides((None, *input_shape), level_stride("P5"))
    inputs = x = keras.Input(shape=input_shape, name="images")
    if include_rescaling:
        x = layers.Rescaling(1 / 255, name="rescaling")(x)
    x = blocks.stem(x, variant.channels(_CHANNELS["P1"]), "stem", downsampling)
    features = {"P1": x}
    for level, num_blocks in _BLOCKS.items():
        stage, filters = f"stage{level[1:]}", variant.channels(_CHANNELS[level])
        x = blocks.downsample(x, filters, f"{stage}_down", downsampling)
        x = blocks.c3(x, filters, variant.blocks(num_blocks), f"{stage}_c3", shortcut=True)
        features[level] = x
    features["P5"] = blocks.sppf(x, filters, "sppf")
    return inputs, features


def _given_backbone(backbone, levels):
    """Returns the input of a model and its features at each level."""
    pyramid = getattr(backbone, "pyramid_level_inputs", None) or find_pyramid(backbone)
    missing = [level for level in levels if level not in pyramid]
    if missing:
        raise ValueError(
            f"`backbone` has no layer at {', '.join(f'1/{level_stride(m)}' for m in missing)} of "
            f"its input's resolution. It has {pyramid}."
        )
    return backbone.inputs[0], {
        level: backbone.get_layer(pyramid[level]).output for level in levels
    }


def _free_prefix(backbone):
    """Returns what goes before the names of neck and head, which a detector's network has too."""
    names = [layer.name for layer in backbone.operations]
    parts = ("lateral_", "top_down_", "bottom_up_", "head_")
    prefixes = itertools.chain(["", "detector_"], (f"detector{n}_" for n in itertools.count(2)))
    for prefix in prefixes:
        if not any(name.startswith(prefix + part) for name in names for part in parts):
            return prefix


def _neck(features, variant, levels, downsampling, prefix=""):
    """Mixes resolutions down to the finest level and up again (a path aggregation network)."""
    num_blocks = variant.blocks(_NECK_BLOCKS)
    laterals = {}
    x = features["P5"]
    for coarse, level in zip(levels[:0:-1], levels[-2::-1], strict=True):
        filters = variant.channels(_CHANNELS[level])
        lateral = laterals[coarse] = blocks.conv(x, filters, 1, f"{prefix}lateral_{coarse.lower()}")
        name = f"{prefix}top_down_{level.lower()}"
        x = layers.UpSampling2D(2, name=f"{name}_up")(lateral)
        x = layers.Concatenate(name=f"{name}_concat")([x, features[level]])
        x = blocks.c3(x, filters, num_blocks, f"{name}_c3", shortcut=False)
    outputs = {levels[0]: x}
    for fine, level in zip(levels, levels[1:], strict=False):
        name = f"{prefix}bottom_up_{level.lower()}"
        filters = variant.channels(_CHANNELS[fine])
        x = blocks.downsample(x, filters, f"{name}_down", downsampling)
        x = layers.Concatenate(name=f"{name}_concat")([x, laterals[level]])
        filters = variant.channels(_CHANNELS[level])
        outputs[level] = x = blocks.c3(x, filters, num_blocks, f"{name}_c3", shortcut=False)
    return outputs


def _refuse_with_keras_cv(head, *, anchors, class_names, levels, backbone):
    """Raises a `ValueError` for arguments that keras-cv's detectors would not heed."""
    given = {"anchors": anchors, "class_names": class_names, "backbone": backbone}
    given["levels"] = None if levels == _LEVELS[0] else levels
    for argument, value in given.items():
        if value is not None:
            raise ValueError(
                f'`{argument}` needs head="yolov5": keras-cv\'s detectors have their own levels '
                f"and anchors, and keep no names. Received: {argument}={value!r}, head={head!r}."
            )


def _variant(size):
    """Returns the `YOLOV5Variant`, and a name for it."""
    if isinstance(size, str) and size in YOLOV5S:
        return YOLOV5S[size], size
    try:
        depth, width = (float(multiple) for multiple in size)
        valid = not isinstance(size, str) and depth > 0 and width > 0
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f"`size` must be one of {', '.join(map(repr, YOLOV5S))}, or a pair of a depth and a "
            f"width multiple such as (0.33, 0.25). Received: size={size!r}."
        )
    return YOLOV5Variant(depth, width), f"d{depth:g}_w{width:g}".replace(".", "_")


def _check_levels(levels):
    levels = tuple(levels) if isinstance(levels, (list, tuple)) else levels
    check_choice("levels", levels, _LEVELS)
    return levels


def _input_range(include_rescaling):
    return (0.0, 255.0) if include_rescaling else (0.0, 1.0)


# By the names that recipes and the command line use.
DETECTORS = {f"yolov5_spd_{size}": size for size in YOLOV5S}
