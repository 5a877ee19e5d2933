"""Networks of few layers and channels, for tests of code that works on any network.

Most of a short training is building and tracing, whose time grows with the layers.
"""

import types

from keras_spd.applications import blocks, resnet, yolo_blocks, yolov5_network
from keras_spd.variants import RESNETS, YOLOV5S, ResNetVariant, YOLOV5Variant


def make_thin(monkeypatch):
    """Replaces ResNet18 and size n of YOLOv5.

    The ResNet gets a block a stage and an eighth of the channels, the detector a quarter of them
    and a convolution for each C3 block.
    """

    def thin(block):
        return lambda x, filters, *args, **options: block(x, filters // 8, *args, **options)

    names = ("conv", "spd_conv", "residual_block")
    patched = vars(blocks) | {name: thin(getattr(blocks, name)) for name in names}
    monkeypatch.setattr(resnet, "blocks", types.SimpleNamespace(**patched))
    monkeypatch.setitem(RESNETS, 18, ResNetVariant(bottleneck=False, blocks=(1, 1, 1, 1)))

    def one_convolution(x, filters, num_blocks, name, *, shortcut):
        return yolo_blocks.conv(x, filters, 1, f"{name}_cv3")

    patched = vars(yolo_blocks) | {"c3": one_convolution}
    monkeypatch.setattr(yolov5_network, "blocks", types.SimpleNamespace(**patched))
    monkeypatch.setitem(YOLOV5S, "n", YOLOV5Variant(0.33, 0.0625))
