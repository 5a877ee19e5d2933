"""The heads of detectors by name. Each has a module; `head.py` defines their interface."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_spd.checks import check_choice
from keras_spd.detection.heads.head import Head
from keras_spd.detection.heads.retinanet import RetinaNetHead
from keras_spd.detection.heads.yolov5 import YOLOV5Head
from keras_spd.detection.heads.yolov8 import YOLOV8Head

HEADS: dict[str, type[Head]] = {
    "yolov5": YOLOV5Head,
    "yolov8": YOLOV8Head,
    "retinanet": RetinaNetHead,
}


def find_head(head: Head | Mapping[str, Any] | str | None, levels: Sequence[str]) -> Head:
    """Returns a `Head` from any description of it.

    Args:
        head: `Head`; its name or config; or, for YOLOv5's head, only its anchors, or `None` for the
            default anchors.
        levels: Names of the levels, finest first.

    Raises:
        ValueError: If the name or the anchors are not as described, or a `Head` has other levels.
    """
    if isinstance(head, Head):
        if set(head.anchors) not in (set(), set(levels)):
            raise ValueError(
                f"The head must have the levels of the network, {', '.join(levels)}. Received a "
                f"head with {', '.join(head.anchors)}."
            )
        return head
    if isinstance(head, str):
        head = {"name": head}
    if not isinstance(head, Mapping) or "name" not in head:
        return YOLOV5Head.build(levels, head)
    config = dict(head)
    name = config.pop("name")
    check_choice("head", name, HEADS)
    kind = HEADS[name]
    return dataclasses.replace(kind.build(levels, config.pop("anchors", None) or None), **config)
