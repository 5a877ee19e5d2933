"""The graph of heads with separate layers for boxes and classes: YOLOv8's and RetinaNet's."""

import keras
from keras import layers

from keras_spd.applications import blocks, yolo_blocks
from keras_spd.detection.heads.decoupled import DecoupledHead

_LEAST_BOX_CHANNELS = 64


def decoupled_head(
    features: dict[str, keras.KerasTensor], head: DecoupledHead, classes: int, prefix: str = ""
) -> dict[str, keras.KerasTensor]:
    """Returns the raw predictions of each level, `(batch, rows, columns, anchors, outputs)`.

    On each level, two 3x3 convolutions and a 1x1 convolution predict the boxes, and another such
    branch the classes, as in YOLOv8. The levels of the neck differ in channels, so levels share no
    layers.

    Args:
        features: Feature map of each level, finest first, from the neck.
        head: `DecoupledHead`, which defines outputs, anchors and initial biases.
        classes: Integer, the number of classes.
        prefix: Prefix of layer names.
    """
    channels = next(iter(features.values())).shape[-1]
    box_channels = max(_LEAST_BOX_CHANNELS, channels // 4)
    raw = {}
    for level, x in features.items():
        anchors, outputs = len(head.sides(level)), []
        for kind, filters, count, bias in (
            ("box", box_channels, head.loss_type.box_outputs, head.box_bias(level)),
            ("class", channels, classes, head.class_bias(level, classes)),
        ):
            y, name = x, f"{level.lower()}_{kind}"
            for number in (1, 2):
                y = yolo_blocks.conv(y, filters, 3, f"{prefix}tower_{name}{number}")
            y = layers.Conv2D(
                anchors * count,
                1,
                kernel_initializer=blocks.initializer(),
                bias_initializer=keras.initializers.Constant(bias),
                name=f"{prefix}head_{name}_conv",
            )(y)
            outputs.append(yolo_blocks.SplitAnchors(anchors, name=f"{prefix}head_{name}")(y))
        raw[level] = layers.Concatenate(name=f"{prefix}head_{level.lower()}")(outputs)
    return raw
