"""`TrainedDetector`, the weights of a detector, whichever file they were read from.

Weights of strided layers are converted into those of SPD-Conv, and back, by the identities in
`keras_spd.algebra`.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_spd.algebra import (
    spd_inputs_to_strided,
    spd_to_strided,
    strided_inputs_to_spd,
    strided_to_spd,
)
from keras_spd.typing import Array, Shape
from keras_spd.variants import find_yolov5_size

# Paths of the stem's kernel in the SPD network, inside an `SPDConv`, and in the strided one.
SPD_STEM, STRIDED_STEM = "stem_conv/conv/kernel", "stem_conv/kernel"


@dataclasses.dataclass(frozen=True)
class TrainedDetector:
    """A trained detector to transfer weights from.

    Args:
        source: Name of the weights or path of the file, for messages.
        arrays: `{path of a variable: array}` of the network.
        num_classes: Number of classes.
        anchors: `{level: ((width, height), ...)}` in pixels; empty if its head has none.
        class_names: Names of the classes, if known.
        image_size: `(height, width)` of the training images, if known.
        max_value, tile: As in `Preprocessing`, if known.
        head: Name of its head.
        single_class_logit: As in `YOLOV5Head`.
    """

    source: str
    arrays: Mapping[str, Array]
    num_classes: int
    anchors: Mapping[str, Any]
    class_names: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    max_value: float | None = None
    tile: tuple[int, int] | None = None
    head: str = "yolov5"
    single_class_logit: bool = False

    @property
    def image_facts(self) -> dict[str, Any]:
        """What is known about its images, as arguments of `ModelInfo`."""
        return {"image_size": self.image_size, "max_value": self.max_value, "tile": self.tile}

    @property
    def spd(self) -> bool:
        """Whether the network downsamples by SPD-Conv."""
        return SPD_STEM in self.arrays

    @property
    def levels(self) -> set[str]:
        """Names of the levels that have a head."""
        found = {re.match(r"(?:detector\d*_)?head_(p\d)_", path) for path in self.arrays}
        return {match[1].upper() for match in found if match}

    @property
    def size(self) -> str | None:
        """The `size` of `YOLOV5SPD`, or `None` for a width and depth without a name."""
        filters = self.arrays.get("stem_bn/gamma", np.zeros(0)).size
        # A backbone that ends at P2 has no stage 3.
        stage, blocks_in_l = (2, 3) if self.levels == {"P2"} else (3, 6)
        blocks = {re.match(rf"stage{stage}_c3_block\d+", path) for path in self.arrays}
        num_blocks = len({match[0] for match in blocks if match})
        return find_yolov5_size(filters, num_blocks, blocks_in_l)

    def array_for(self, path: str, shape: Shape) -> Array | None:
        """Returns the array for a variable, converted to the model's downsampling, or `None`.

        Args:
            path: Path of the variable in the model.
            shape: Its shape.

        Raises:
            ValueError: If the model is strided, but the SPD network reads pixels that a stride
                skips.
        """
        arrays = self.arrays
        if path == SPD_STEM and STRIDED_STEM in arrays:
            return strided_to_spd(arrays[STRIDED_STEM], 2)
        if path == STRIDED_STEM and SPD_STEM in arrays:
            return spd_to_strided(arrays[SPD_STEM], 2)
        array = arrays.get(path)
        # The first convolutions of a C3 block read what the downsampling before it returns: with
        # SPD-Conv four phases of its channels, three more than with a stride.
        block = re.fullmatch(r"(.+)_c3_cv[12]_conv/kernel", path)
        if array is None or block is None or array.shape == shape:
            return array
        downsampling = arrays.get(f"{block[1]}_down_conv/kernel")
        if downsampling is None:
            return array
        channels = downsampling.shape[-1]
        more_inputs = shape[2] - array.shape[2]
        if more_inputs == 3 * channels:
            return strided_inputs_to_spd(array, channels)
        if more_inputs == -3 * channels:
            try:
                return spd_inputs_to_strided(array, channels)
            except ValueError as error:
                raise ValueError(
                    f"The SPD weights {self.source} have no strided twin: "
                    f"{block[1]}_c3 reads pixels that a stride skips. "
                    'Build the SPD network, with downsampling="spd".'
                ) from error
        return array

    def __str__(self) -> str:
        """The constructor call that the weights fit."""
        size = self.size
        options = [f'size="{size}"' if size else "size=(...)"]
        options += [f"classes={self.num_classes}"] if self.num_classes else []
        options += [] if self.head == "yolov5" else [f'head="{self.head}"']
        options += [] if self.spd else ['downsampling="strided"']
        name = "YOLOV5SPD" if self.num_classes else "YOLOV5SPDBackbone"
        return f"keras_spd.applications.{name}({', '.join(options)})"
