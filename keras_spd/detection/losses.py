"""The loss of YOLOv5 and YOLOv5-SPD."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_spd.boxes import convert_boxes
from keras_spd.checks import check_choice
from keras_spd.detection.anchors import RATIO_THRESHOLD, Anchors, level_stride, standardize_anchors
from keras_spd.detection.base_loss import DetectionLoss, cross_entropy, pad_box, per_replica
from keras_spd.detection.box_loss import check_iou, compare_boxes, mean_iou_loss
from keras_spd.detection.decoding import image_size
from keras_spd.detection.receptive_fields import RECEPTIVE_FIELDS, match_receptive_fields
from keras_spd.detection.targets import Targets, match_level
from keras_spd.typing import Tensor

# Objectness weight of each level, finest first, by the number of levels, as in the authors' code.
_BALANCE = {1: (4.0,), 2: (4.0, 1.0), 3: (4.0, 1.0, 0.4), 4: (4.0, 1.0, 0.25, 0.06)}
ASSIGNMENTS = ("ratio", "rfla")


class _Candidates(NamedTuple):
    """The predictions of one level, and those of them that boxes are assigned to."""

    flat: Tensor  # (predictions, outputs), of all images
    index: Tensor  # (candidates,), rows of `flat`
    matched: Tensor  # (candidates, outputs), those rows
    mask: Tensor  # (candidates,), boolean: whether the candidate counts
    classes: Tensor  # (candidates,), class of its box
    predicted: Tensor  # (candidates, 4), center_xywh in grid cells, relative to the cell
    target: Tensor  # (candidates, 4), the same for its box

    @property
    def weight(self) -> Tensor:
        return ops.cast(self.mask, "float32")


@keras.saving.register_keras_serializable(package="keras_spd")
class YOLOV5Loss(DetectionLoss):
    """The authors' detection loss: CIoU for boxes, cross-entropy for objectness and classes.

    `components` returns the three parts. The loss is their sum times the number of images in the
    batch, as in the authors' code, so their learning rates carry over.

    Tensor shapes only depend on the padded ground truth, and memory grows with the number of
    boxes. The loss is computed in float32, whatever the model's dtype. Boxes are ignored if they
    have no area, non-finite coordinates or a class out of range, or lie outside the image.

    Args:
        num_classes: Integer.
        bounding_box_format: Format of the ground truth, a name in `keras_spd.boxes.BOX_FORMATS`.
        anchors: `{level: ((width, height), ...)}` in pixels; `None` for the default anchors.
        label_smoothing: Number, fraction of smoothing: class targets are
            `1 - label_smoothing / 2` and `label_smoothing / 2`.
        box_gain: Number, weight of the box loss for 3 levels.
        objectness_gain: Number, weight of the objectness loss for 3 levels and images of 640
            pixels. It is scaled with the square of the longest side.
        class_gain: Number, weight of the class loss for 3 levels and 80 classes. It is scaled
            with the number of classes.
        ratio_threshold: Number. A box matches an anchor if width and height both differ by a
            smaller factor.
        iou: How predicted boxes are compared with the ground truth: `"ciou"`, as the authors do;
            `"wiou"`, Wise-IoU v3; `"nwd"`, the normalised Wasserstein distance, for boxes of a few
            pixels, whose IoU is mostly 0; or weights of several, which sum to 1:
            `{"ciou": 0.5, "nwd": 0.5}`. The similarity is also the target of objectness, as
            CIoU is in the authors' code; for `"wiou"`, the IoU is.
        nwd_constant: Number, the constant of `"nwd"`: about the mean side of the boxes, in pixels
            of the network's input. 12.8 is the paper's, for AI-TOD. In recipes, it defaults to the
            mean side of the training boxes.
        assignment: Which predictions learn a box. `"ratio"`: those of all anchors that match by
            `ratio_threshold`, as in the authors' code. `"rfla"`: those of the three cells, on any
            level, whose receptive fields fit the box best, each with its best anchor. See
            `keras_spd.detection.receptive_fields`.
        name: Name of the loss.
        **kwargs: `class_weights` of `DetectionLoss`, and arguments of `keras.losses.Loss`.

    Raises:
        ValueError: If an argument, the ground truth or a prediction is not as described.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3)
    >>> loss = keras_spd.detection.YOLOV5Loss(num_classes=3, label_smoothing=0.1)
    >>> model.compile(optimizer="adam", loss=loss)

    A mix with equal weights for CIoU and distance, for objects of a few pixels:

    >>> loss = keras_spd.detection.YOLOV5Loss(3, iou={"ciou": 0.5, "nwd": 0.5}, nwd_constant=9.0)

    Source: `ComputeLoss` in `YOLOv5-SPD/utils/loss.py` of LabSAINT/SPD-Conv, and the scaling of
    the gains in its `train.py`. `"wiou"`: https://arxiv.org/abs/2301.10051, with the mean of the
    batch instead of a running mean, so that the loss has no state and a resumed run, several
    devices and all backends compute the same. `"nwd"`: https://arxiv.org/abs/2110.13389. `"rfla"`:
    https://arxiv.org/abs/2208.08738.
    """

    head = "yolov5"
    box_outputs = 5
    parts = ("box_loss", "objectness_loss", "class_loss")

    def __init__(
        self,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        *,
        anchors: Anchors | None = None,
        label_smoothing: float = 0.0,
        box_gain: float = 0.05,
        objectness_gain: float = 1.0,
        class_gain: float = 0.5,
        ratio_threshold: float = RATIO_THRESHOLD,
        iou: str | Mapping[str, float] = "ciou",
        nwd_constant: float = 12.8,
        assignment: str = "ratio",
        name: str = "yolov5_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes,
            bounding_box_format,
            anchors=anchors if anchors is None else standardize_anchors(anchors, list(anchors)),
            name=name,
            **kwargs,
        )
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"`label_smoothing` must be at least 0 and below 1. Received: {label_smoothing}."
            )
        if not nwd_constant > 0:
            raise ValueError(f"`nwd_constant` must be above 0. Received: {nwd_constant}.")
        check_choice("assignment", assignment, ASSIGNMENTS)
        self.iou, self._iou_weights = iou, check_iou(iou)
        self.nwd_constant = nwd_constant
        self.assignment = assignment
        self.label_smoothing = label_smoothing
        self.box_gain = box_gain
        self.objectness_gain = objectness_gain
        self.class_gain = class_gain
        self.ratio_threshold = ratio_threshold

    def components(self, y_true: dict[str, Tensor], raw: dict[str, Tensor]) -> dict[str, Tensor]:
        levels = self.check_predictions(raw)
        raw = {level: ops.cast(raw[level], "float32") for level in levels}
        size = image_size(raw)
        boxes, classes, mask = self.usable_boxes(pad_box(y_true), size)
        boxes = convert_boxes(boxes, "xyxy", "center_xywh", size)

        targets = self._assign(boxes, classes, mask, raw)
        candidates = {level: _gather(raw[level], targets[level]) for level in levels}
        mean_loss = None
        if "wiou" in self._iou_weights:
            pairs = [(c.predicted, c.target, c.weight) for c in candidates.values()]
            mean_loss = mean_iou_loss(pairs)

        box_loss = objectness_loss = class_loss = 0.0
        for level, balance in zip(levels, _BALANCE[len(levels)], strict=True):
            parts = self._level_loss(candidates[level], level_stride(level), mean_loss)
            box_loss += parts[0]
            objectness_loss += balance * parts[1]
            class_loss += parts[2]

        by_levels = 3 / len(levels)
        longest_side = ops.cast(ops.maximum(*size), "float32")
        return {
            "box_loss": self.box_gain * by_levels * box_loss,
            "objectness_loss": self.objectness_gain
            * by_levels
            * (longest_side / 640) ** 2
            * objectness_loss,
            "class_loss": self.class_gain * by_levels * self.num_classes / 80 * class_loss,
        }

    def _assign(
        self, boxes: Tensor, classes: Tensor, mask: Tensor, raw: dict[str, Tensor]
    ) -> dict[str, Targets]:
        """Returns the targets of each level for center_xywh boxes in pixels."""
        anchors = {
            level: ops.convert_to_tensor(np.array(sides, "float32"))
            for level, sides in standardize_anchors(self.anchors, list(raw)).items()
        }
        grids = {level: ops.shape(predictions)[1:3] for level, predictions in raw.items()}
        if self.assignment == "rfla":
            return match_receptive_fields(boxes, classes, mask, anchors, grids)
        return {
            level: match_level(
                boxes,
                classes,
                mask,
                anchors[level],
                level_stride(level),
                grids[level],
                self.ratio_threshold,
            )
            for level in raw
        }

    def _level_loss(
        self, candidates: _Candidates, stride: int, mean_loss: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns box, objectness and class loss of one level, without gains."""
        flat, index, matched, mask, classes, predicted, target = candidates
        weight = candidates.weight
        count = per_replica(ops.sum(weight))
        losses, overlap = compare_boxes(
            predicted, target, self._iou_weights, self.nwd_constant / stride, mean_loss
        )
        box_loss = ops.sum(weight * losses) / count

        # If several boxes claim a cell and anchor, the last one wins, as in the authors' scatter.
        order = ops.where(mask, ops.arange(ops.size(index), dtype="int32"), -1)
        last = ops.segment_max(order, index, num_segments=ops.shape(flat)[0])
        score = ops.take(ops.maximum(ops.stop_gradient(overlap), 0), ops.maximum(last, 0))
        wanted = ops.where(last >= 0, score, 0.0)
        objectness_loss = ops.mean(cross_entropy(wanted, flat[:, 4]))

        if self.num_classes == 1:
            return box_loss, objectness_loss, 0.0
        wanted = ops.one_hot(classes, self.num_classes)
        wanted = wanted * (1 - self.label_smoothing) + self.label_smoothing / 2
        class_loss = ops.mean(cross_entropy(wanted, matched[:, 5:]), axis=-1)
        weight = weight * self.class_factors(wanted)
        return box_loss, objectness_loss, ops.sum(weight * class_loss) / count

    def check_predictions(self, raw: Any) -> list[str]:
        if not hasattr(raw, "items") or len(raw) not in _BALANCE:
            raise ValueError(
                "`YOLOV5Loss` takes raw predictions as a dictionary of 1 to 4 levels, as returned "
                f'by `YOLOV5SPD(head="yolov5")`. Received: {type(raw).__name__}'
                + (f" of {sorted(raw)}." if hasattr(raw, "items") else ".")
            )
        if self.assignment == "rfla" and not set(raw) <= set(RECEPTIVE_FIELDS):
            raise ValueError(
                f'`assignment="rfla"` is for the levels {", ".join(RECEPTIVE_FIELDS)}. '
                f"Received: {', '.join(raw)}."
            )
        return super().check_predictions(raw)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "box_gain": self.box_gain,
            "objectness_gain": self.objectness_gain,
            "class_gain": self.class_gain,
            "ratio_threshold": self.ratio_threshold,
            "iou": self.iou,
            "nwd_constant": self.nwd_constant,
            "assignment": self.assignment,
        }


def _gather(predictions: Tensor, targets: Targets) -> _Candidates:
    """Returns the predictions that boxes are assigned to on one level, decoded."""
    images, rows, columns, num_anchors, outputs = ops.shape(predictions)
    cells = rows * columns * num_anchors
    flat = ops.reshape(predictions, (images * cells, outputs))
    index = ops.arange(images, dtype="int32")[:, None] * cells + targets.cell
    index = ops.reshape(index, (-1,))
    matched = ops.take(flat, index, axis=0)
    offset = 2 * ops.sigmoid(matched[:, :2]) - 0.5
    sides = (2 * ops.sigmoid(matched[:, 2:4])) ** 2 * ops.reshape(targets.anchors, (-1, 2))
    return _Candidates(
        flat=flat,
        index=index,
        matched=matched,
        mask=ops.reshape(targets.mask, (-1,)),
        classes=ops.reshape(targets.classes, (-1,)),
        predicted=ops.concatenate([offset, sides], axis=-1),
        target=ops.reshape(targets.boxes, (-1, 4)),
    )
