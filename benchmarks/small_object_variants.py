"""The networks that `small_objects.py` compares, and how each is trained."""

import dataclasses
import functools
import math
from collections.abc import Callable

from downsamplings import blur_pool, haar, max_pool
from keras_spd.applications import YOLOV5SPD
from keras_spd.surgery import count_multiply_adds, to_spd


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network and how it is trained.

    Args:
        label: The row of the table.
        options: Arguments of `YOLOV5SPD`.
        change: Function from this detector to the one that is trained.
        recipe: Fields of the recipe that differ.
        equal_cost: What is changed until the multiply-adds are those of another variant: "width"
            or "side", and the name of that variant.
        tiles: Where images are cut into tiles of the input's size: "training", "prediction".
        enlarged: Whether images are first reduced to `--image-size`, so that a larger input shows
            no more detail.
    """

    label: str
    options: dict = dataclasses.field(default_factory=dict)
    change: Callable = lambda detector: detector
    recipe: dict = dataclasses.field(default_factory=dict)
    equal_cost: tuple[str, str] | None = None
    tiles: tuple[str, ...] = ()
    enlarged: bool = False


STRIDED = {"downsampling": "strided"}
VARIANTS = {
    "spd": Variant("SPD, the paper's layout"),
    "strided": Variant("strided", STRIDED),
    "strided_larger": Variant(
        "strided, larger input at SPD's cost", STRIDED, equal_cost=("side", "spd")
    ),
    "strided_enlarged": Variant(
        "strided, the same input, enlarged from SPD's",
        *(STRIDED, lambda detector: detector, {}, ("side", "spd")),
        enlarged=True,
    ),
    "strided_wider": Variant("strided, wider at SPD's cost", STRIDED, equal_cost=("width", "spd")),
    "spd_thinner": Variant("SPD, thinner at the strided cost", equal_cost=("width", "strided")),
    "spd_first": Variant("space-to-depth first (`to_spd`)", STRIDED, to_spd),
    "spd_first_larger": Variant(
        "space-to-depth first, larger input at SPD's cost", STRIDED, to_spd, {}, ("side", "spd")
    ),
    **{
        f"spd_first_{n}": Variant(
            f"space-to-depth first, in the first {n} of 7 layers",
            STRIDED,
            functools.partial(to_spd, first_n=n),
        )
        for n in (1, 2, 3)
    },
    "blur_pool": Variant("convolution, blur, subsampling (BlurPool)", STRIDED, blur_pool),
    "max_pool": Variant("convolution, max pooling", STRIDED, max_pool),
    "haar": Variant("Haar wavelet, convolution", STRIDED, haar),
    "spd_p2": Variant("SPD, P2 to P5", {"levels": ("P2", "P3", "P4", "P5")}),
    "spd_p2_p4": Variant("SPD, P2 to P4", {"levels": ("P2", "P3", "P4")}),
    "spd_wiou": Variant("SPD, WIoU", recipe={"loss.iou": "wiou"}),
    "spd_nwd": Variant("SPD, NWD", recipe={"loss.iou": "nwd"}),
    "spd_ciou_nwd": Variant("SPD, CIoU and NWD", recipe={"loss.iou": {"ciou": 0.5, "nwd": 0.5}}),
    "spd_rfla": Variant("SPD, RFLA", recipe={"loss.assignment": "rfla"}),
    "spd_tiles_training": Variant("SPD, tiles in training", tiles=("training",)),
    "spd_tiles_prediction": Variant("SPD, tiles in prediction", tiles=("prediction",)),
    "spd_tiles": Variant("SPD, tiles in both", tiles=("training", "prediction")),
    "spd_yolov8": Variant("SPD, YOLOv8's head", {"head": "yolov8"}),
    "strided_yolov8": Variant("strided, YOLOv8's head", {**STRIDED, "head": "yolov8"}),
    "strided_yolov8_enlarged": Variant(
        "strided, YOLOv8's head, the same input, enlarged",
        {**STRIDED, "head": "yolov8"},
        equal_cost=("side", "spd_yolov8"),
        enlarged=True,
    ),
    "spd_retinanet": Variant("SPD, RetinaNet's head", {"head": "retinanet"}),
}


def build(name, side, classes, class_names=None, weights=None):
    """Returns the detector of a variant and the side of its images."""
    variant = VARIANTS[name]
    options = {**variant.options, "classes": classes, "class_names": class_names}
    size: str | tuple[float, float] = "n"
    if variant.equal_cost:
        what, other = variant.equal_cost
        cost = multiply_adds(other, side)
        if what == "side":
            own = variant.change(YOLOV5SPD(size, classes=6, **variant.options))
            side = 32 * round(side / 32 * math.sqrt(cost / _count(own, side)))
        else:
            own = _multiply_adds(size, side, variant.options)
            likely = round(32 * math.sqrt(cost / own))  # size n has a width of 32 / 128
            size = min(
                ((0.33, step / 128) for step in range(likely - 3, likely + 4)),
                key=lambda size: abs(_multiply_adds(size, side, variant.options) - cost),
            )
            weights = None  # no trained weights have this width
    detector = YOLOV5SPD(size, weights=weights and str(weights), **options)
    return variant.change(detector), side


@functools.cache
def multiply_adds(name, side):
    """Returns the multiply-adds of a variant on one image."""
    return _count(*build(name, side, classes=6))


def _multiply_adds(size, side, options):
    return _count(YOLOV5SPD(size, classes=6, **options), side)


def _count(detector, side):
    return count_multiply_adds(detector, (side, side))
