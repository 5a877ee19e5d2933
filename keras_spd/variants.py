"""The network variants, read by constructors, weights and the command line."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class ResNetVariant:
    """Block type, and number of blocks in each stage (64, 128, 256 and 512 filters)."""

    bottleneck: bool
    blocks: tuple[int, ...]


# By depth: the number of convolutions in the stem and all blocks, plus the classifier.
# He et al., "Deep Residual Learning for Image Recognition", table 1. To add a depth, add a row
# here and name its constructor at the end of `applications/resnet.py`.
RESNETS = {
    18: ResNetVariant(bottleneck=False, blocks=(2, 2, 2, 2)),
    34: ResNetVariant(bottleneck=False, blocks=(3, 4, 6, 3)),
    50: ResNetVariant(bottleneck=True, blocks=(3, 4, 6, 3)),
    101: ResNetVariant(bottleneck=True, blocks=(3, 4, 23, 3)),
    152: ResNetVariant(bottleneck=True, blocks=(3, 8, 36, 3)),
}


@dataclasses.dataclass(frozen=True)
class YOLOV5Variant:
    """Factors that scale the depth (blocks) and width (channels) of the large model."""

    depth_multiple: float
    width_multiple: float

    def blocks(self, count: int) -> int:
        """Returns the number of bottlenecks where the large model has `count`."""
        return max(round(count * self.depth_multiple), 1)

    def channels(self, count: int) -> int:
        """Returns the number of channels where the large model has `count`, a multiple of 8."""
        return math.ceil(count * self.width_multiple / 8) * 8


# `YOLOv5-SPD/models/space_depth_{n,s,m,l}.yaml` of LabSAINT/SPD-Conv. They have no x; ours is
# YOLOv5's (Ultralytics, v6.0 to v7.0).
YOLOV5S = {
    "n": YOLOV5Variant(0.33, 0.25),
    "s": YOLOV5Variant(0.33, 0.50),
    "m": YOLOV5Variant(0.67, 0.75),
    "l": YOLOV5Variant(1.0, 1.0),
    "x": YOLOV5Variant(1.33, 1.25),
}


def find_yolov5_size(filters: int, blocks: int, blocks_in_l: int = 6) -> str | None:
    """Returns the size of a network, or `None` if it has none of these sizes.

    Args:
        filters: Integer, the filters of its stem.
        blocks: Integer, the bottlenecks of one of its stages.
        blocks_in_l: Integer, the bottlenecks of that stage in size l; by default, of stage 3.
    """
    for size, variant in YOLOV5S.items():
        if (variant.channels(64), variant.blocks(blocks_in_l)) == (filters, blocks):
            return size
    return None
