"""The table of network variants: builders, weights and the command line read it."""

import dataclasses


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
