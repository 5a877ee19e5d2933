"""The part of YOLOv5's loss that compares predicted boxes with the ground truth."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from keras_spd.boxes import (
    complete_iou,
    normalized_wasserstein,
    wise_iou,
    wise_iou_focus,
)
from keras_spd.detection.base_loss import global_sum
from keras_spd.typing import Tensor

COMPARISONS = ("ciou", "wiou", "nwd")


def check_iou(iou: Any) -> dict[str, float]:
    """Returns the `iou` argument of `YOLOV5Loss` as `{name: weight}`, or raises a `ValueError`."""
    weights = {iou: 1.0} if isinstance(iou, str) else iou
    if (
        not isinstance(weights, Mapping)
        or not set(weights) <= set(COMPARISONS)
        or not all(isinstance(w, (int, float)) and w > 0 for w in weights.values())
        or abs(sum(weights.values()) - 1) > 1e-6
    ):
        raise ValueError(
            f"`iou` must be one of {', '.join(map(repr, COMPARISONS))}, or a mix such as "
            '{"ciou": 0.5, "nwd": 0.5}, whose positive weights sum to 1. '
            f"Received: iou={iou!r}."
        )
    return dict(weights)


def compare_boxes(
    predicted: Tensor,
    target: Tensor,
    weights: Mapping[str, float],
    nwd_constant: float,
    mean_loss: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Compares center_xywh boxes, elementwise.

    Args:
        predicted, target: Tensors of shape `(boxes, 4)`.
        weights: `{name: weight}`, as from `check_iou`.
        nwd_constant: Number, as in `normalized_wasserstein`.
        mean_loss: The result of `mean_iou_loss`; only used by `"wiou"`.

    Returns:
        Two tensors of shape `(boxes,)`: losses; and similarities, at most 1, whose positive values
        are the targets of objectness.
    """
    losses: Any = 0.0
    similarities: Any = 0.0
    for name, weight in weights.items():
        if name == "wiou":
            loss, similarity = wise_iou(predicted, target)
            loss = loss * wise_iou_focus(similarity, mean_loss)
        else:
            similarity = (
                complete_iou(predicted, target)
                if name == "ciou"
                else normalized_wasserstein(predicted, target, nwd_constant)
            )
            loss = 1 - similarity
        losses += weight * loss
        similarities += weight * similarity
    return losses, similarities


def mean_iou_loss(pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Returns the mean of `1 - IoU` over the positives of all levels and all replicas.

    Args:
        pairs: Predicted boxes, targets and weights (1 or 0) of each level.
    """
    total = sum(ops.sum(weight * (1 - wise_iou(*boxes)[1])) for *boxes, weight in pairs)
    count = sum(ops.sum(weight) for *_, weight in pairs)
    return ops.stop_gradient(global_sum(total) / ops.maximum(global_sum(count), 1.0))
