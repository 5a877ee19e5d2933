"""Backbone, neck and head of YOLOv5-SPD and of its strided twin, YOLOv5 v6.0.

References:
    Sunkara and Luo, "No More Strided Convolutions or Pooling", ECML PKDD 2022, section 4.1,
    https://arxiv.org/abs/2208.03641, and its code, LabSAINT/SPD-Conv (`YOLOv5-SPD`).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from keras_spd.applications import yolo_blocks as blocks
from keras_spd.applications.arguments import (
    check_image_data_format,
    check_input_shape,
)
from keras_spd.checks import check_choice
from keras_spd.detection.anchors import level_stride
from keras_spd.detection.image_size import check_image_sides
from keras_spd.variants import YOLOV5S, YOLOV5Variant

_LEVELS = ("P2", "P3", "P4", "P5")
# Of size l, whose multiples are 1: channels at each level, and bottlenecks in each C3 block of the
# backbone. Other sizes scale them.
_CHANNELS = {"P1": 64, "P2": 128, "P3": 256, "P4": 512, "P5": 1024}
_BLOCKS = {"P2": 3, "P3": 6, "P4": 9, "P5": 3}
_NECK_BLOCKS = 3

Features = dict[str, keras.KerasTensor]


def find_variant(size: str | Sequence[float]) -> tuple[YOLOV5Variant, str]:
    """Returns the `YOLOV5Variant` for a `size` argument, and a name for it.

    Raises:
        ValueError: If it is neither the name of a size nor a pair of multiples.
    """
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


def check_levels(levels: Sequence[str]) -> tuple[str, ...]:
    """Returns the pyramid levels as a tuple, finest first.

    Raises:
        ValueError: If they are not a run of P2 to P5.
    """
    runs = [_LEVELS[i:j] for i, j in itertools.combinations(range(len(_LEVELS) + 1), 2)]
    if not isinstance(levels, (list, tuple)) or tuple(levels) not in runs:
        raise ValueError(
            f"`levels` must be one or several successive levels of {', '.join(_LEVELS)}, finest "
            'first, such as ("P2", "P3", "P4") or ("P3",). '
            f"Received: levels={levels!r}."
        )
    return tuple(levels)


def backbone(
    variant: YOLOV5Variant,
    input_shape: tuple[int | None, int | None, int] | None,
    include_rescaling: bool,
    downsampling: str,
    top: str = "P5",
) -> tuple[keras.KerasTensor, Features]:
    """Returns the input and the last feature map of each resolution, from `"P1"` to `top`.

    Spatial pyramid pooling (SPPF) follows the last stage, wherever the backbone ends.
    """
    check_image_data_format()
    check_choice("downsampling", downsampling, ("spd", "strided"))
    check_input_shape(input_shape)
    input_shape = input_shape or (None, None, 3)
    check_image_sides((None, *input_shape), level_stride(top))
    inputs = x = keras.Input(shape=input_shape, name="images")
    if include_rescaling:
        x = layers.Rescaling(1 / 255, name="rescaling")(x)
    x = blocks.stem(x, variant.channels(_CHANNELS["P1"]), "stem", downsampling)
    features = {"P1": x}
    for level in _LEVELS[: _LEVELS.index(top) + 1]:
        stage, filters = f"stage{level[1:]}", variant.channels(_CHANNELS[level])
        x = blocks.downsample(x, filters, f"{stage}_down", downsampling)
        x = blocks.c3(x, filters, variant.blocks(_BLOCKS[level]), f"{stage}_c3", shortcut=True)
        features[level] = x
    features[top] = blocks.sppf(x, filters, "sppf")
    return inputs, features


def neck(
    features: Features,
    variant: YOLOV5Variant,
    levels: tuple[str, ...],
    downsampling: str,
    prefix: str = "",
) -> Features:
    """Combines features top-down, then bottom-up (a path aggregation network).

    With a single level there is nothing to combine.

    Args:
        features: Feature map of each level, from a backbone.
        variant: Depth and width multiples.
        levels: Names of the levels, finest first.
        downsampling: `"spd"` or `"strided"`.
        prefix: Prefix of layer names, to avoid clashes with those of a backbone.

    Returns:
        `{level: feature map}`, the inputs of the heads.
    """
    num_blocks = variant.blocks(_NECK_BLOCKS)
    laterals = {}
    x = features[levels[-1]]
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


def head(
    features: Features, anchors: Mapping[str, Sequence[Any]], classes: int, prefix: str = ""
) -> Features:
    """Returns the raw predictions of each level, `(batch, rows, columns, anchors, 5 + classes)`."""
    return {
        level: blocks.raw_predictions(
            x, len(anchors[level]), classes, level_stride(level), f"{prefix}head_{level.lower()}"
        )
        for level, x in features.items()
    }
