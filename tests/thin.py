"""The same network graphs with few channels, for tests that do not depend on the width."""

import types

from keras_spd.applications import blocks, resnet
from keras_spd.variants import YOLOV5S, YOLOV5Variant


def make_thin(monkeypatch):
    """ResNets get an eighth of their channels, size n of YOLOv5 a quarter."""

    def thin(block):
        return lambda x, filters, *args, **options: block(x, filters // 8, *args, **options)

    names = ("conv", "spd_conv", "residual_block")
    patched = vars(blocks) | {name: thin(getattr(blocks, name)) for name in names}
    monkeypatch.setattr(resnet, "blocks", types.SimpleNamespace(**patched))
    monkeypatch.setitem(YOLOV5S, "n", YOLOV5Variant(0.33, 0.0625))
