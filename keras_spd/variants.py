"""The table of network variants: builders, weights and the command line read it."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class ResNetVariant:
    """The kind of blocks, and how many of them each stage (64, 128, 256, 512 filters) has."""

    bottleneck: bool
    blocks: tuple[int, ...]


# By depth: the stem, the convolutions of all blocks and the classifier, counted.
# He et al., "Deep Residual Learning for Image Recognition", table 1. Another depth is another row
# here, and a name for its constructor at the end of `applications/resnet.py`.
RESNETS = {
    18: ResNetVariant(bottleneck=False, blocks=(2, 2, 2, 2)),
    34: ResNetVariant(bottleneck=False, blocks=(3, 4, 6, 3)),
    50: ResNetVariant(bottleneck=True, blocks=(3, 4, 6, 3)),
    101: ResNetVariant(bottleneck=True, blocks=(3, 4, 23, 3)),
    152: ResNetVariant(bottleneck=True, blocks=(3, 8, 36, 3)),
}


@dataclasses.dataclass(frozen=True)
class YOLOV5Variant:
    """What the depth (blocks a stage) and the width (channels) of the large model are scaled by."""

    depth_multiple: float
    width_multiple: float

    def blocks(self, count: int) -> int:
        """Number of bottlenecks where the large model has `count`."""
        return max(round(count * self.depth_multiple), 1)

    def channels(self, count: int) -> int:
        """Number of channels where the large model has `count`: a multiple of 8."""
        return math.ceil(count * self.width_multiple / 8) * 8


# `YOLOv5-SPD/models/space_depth_{n,s,m,l}.yaml` of LabSAINT/SPD-Conv; x, which they left out, is
# YOLOv5's own (Ultralytics, v6.0 to v7.0).
YOLOV5S = {
    "n": YOLOV5Variant(0.33, 0.25),
    "s": YOLOV5Variant(0.33, 0.50),
    "m": YOLOV5Variant(0.67, 0.75),
    "l": YOLOV5Variant(1.0, 1.0),
    "x": YOLOV5Variant(1.33, 1.25),
}


def find_yolov5_size(filters: int, blocks: int) -> str | None:
    """Returns the size whose stem has `filters` and whose third stage has `blocks`, or `None`."""
    sizes = {(variant.channels(64), variant.blocks(6)): size for size, variant in YOLOV5S.items()}
    return sizes.get((filters, blocks))
