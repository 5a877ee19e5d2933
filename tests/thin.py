"""Networks of few layers and channels, for tests of code that works on any network.

Most of a short training is building and tracing, whose time grows with the layers.
"""

import types

from keras_spd.applications import blocks, resnet, yolo_blocks, yolov5_network
from keras_spd.variants import (
    RESNETS,
    YOLOV5S,
    ResNetVariant,
    YOLOV5Variant,
    find_yolov5_size,
)
from keras_spd.weights import trained_detector


def make_thin(monkeypatch):
    """Replaces ResNet18, 34 and 50 and size n of YOLOv5.

    A ResNet gets one block per stage and an eighth of the channels, the detector a quarter of them
    and one convolution for each C3 block.
    """

    def thin(block):
        return lambda x, filters, *args, **options: block(x, filters // 8, *args, **options)

    names = ("conv", "spd_conv", "residual_block")
    patched = vars(blocks) | {name: thin(getattr(blocks, name)) for name in names}
    monkeypatch.setattr(resnet, "blocks", types.SimpleNamespace(**patched))
    for depth, blocks_of_stages in {18: (1, 1, 1, 1), 34: (1, 1, 2, 1), 50: (1, 1, 1, 1)}.items():
        monkeypatch.setitem(RESNETS, depth, ResNetVariant(depth == 50, blocks_of_stages))

    def one_convolution(x, filters, num_blocks, name, *, shortcut):
        return yolo_blocks.conv(x, filters, 1, f"{name}_cv1")

    patched = vars(yolo_blocks) | {"c3": one_convolution}
    monkeypatch.setattr(yolov5_network, "blocks", types.SimpleNamespace(**patched))
    monkeypatch.setitem(YOLOV5S, "n", YOLOV5Variant(0.33, 0.0625))

    def find_size(filters, num_blocks, blocks_in_l):
        return "n" if filters == 8 else find_yolov5_size(filters, num_blocks, blocks_in_l)

    monkeypatch.setattr(trained_detector, "find_yolov5_size", find_size)
