"""Decodes raw predictions into boxes and applies NMS, for `predict` and `evaluate`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spd.boxes import check_box_format, convert_boxes, intersection_over_union
from keras_spd.checks import check_integer
from keras_spd.detection import tensorflow_nms
from keras_spd.detection.anchors import Anchors, level_stride
from keras_spd.typing import Array, Tensor

MAX_CANDIDATES = 30_000  # the authors' `max_nms`: the most boxes passed to NMS
_CHUNK = 512  # candidates processed together


def decode(raw: Mapping[str, Tensor], anchors: Anchors, single_class_logit: bool = False) -> Tensor:
    """Decodes raw predictions of all levels of YOLOv5's head.

    Args:
        raw: `{level: (images, rows, columns, anchors, 5 + classes)}`.
        anchors: `{level: ((width, height), ...)}` in pixels.
        single_class_logit: Boolean, as in `YOLOV5Head`: whether a detector with one class uses its
            class logit. If not, the class probability is 1.

    Returns:
        float32 tensor of shape `(images, predictions, 5 + classes)`: centre x and y, width and
        height in pixels, objectness, class probabilities. Ordered by level (finest first), then
        cell, then anchor.

    Example:

    >>> model = keras_spd.applications.YOLOV5SPD("n", classes=3, input_shape=(64, 64, 3))
    >>> keras_spd.detection.decode(model(images), model.anchors).shape  # 3 * (64 + 16 + 4)
    (1, 252, 8)

    Source: `Detect.forward` in `YOLOv5-SPD/models/yolo.py` of LabSAINT/SPD-Conv.
    """
    sides = {level: np.array(anchors[level], "float32") for level in raw}
    return decode_levels(raw, sides, functools.partial(read_yolov5, class_logit=single_class_logit))


def decode_levels(
    raw: Mapping[str, Tensor], sides: Mapping[str, Array], read: Callable[..., Tensor]
) -> Tensor:
    """Decodes raw predictions of all levels with a function.

    Args:
        raw: `{level: (images, rows, columns, anchors, outputs)}`.
        sides: `{level: (anchors, 2)}`, width and height of the anchors in pixels.
        read: Like `Head.read`.

    Returns:
        float32 tensor of shape `(images, predictions, ...)`: what `read` returns, in the order of
        `decode`.
    """
    decoded = []
    for level in sorted(raw, key=level_stride):
        x = ops.cast(raw[level], "float32")
        images, rows, columns, num_anchors, _ = ops.shape(x)
        grid = ops.stack(
            ops.meshgrid(ops.arange(columns, dtype="float32"), ops.arange(rows, dtype="float32")),
            axis=-1,
        )[None, :, :, None]
        x = read(x, grid, level_stride(level), ops.convert_to_tensor(sides[level]))
        decoded.append(ops.reshape(x, (images, rows * columns * num_anchors, x.shape[-1])))
    return ops.concatenate(decoded, axis=1)


def read_yolov5(
    x: Tensor, grid: Tensor, stride: Any, sides: Tensor, *, class_logit: bool = False
) -> Tensor:
    """Reads predictions of YOLOv5's head; `Head.read` describes arguments and result.

    Args:
        class_logit: Boolean, whether a single class has its own probability. If not, it is 1.
    """
    x = ops.sigmoid(x)
    boxes = decode_boxes(x, grid, stride, sides)
    if x.shape[-1] == 6 and not class_logit:
        return ops.concatenate([*boxes, x[..., 4:5], ops.ones_like(x[..., 5:])], axis=-1)
    return ops.concatenate([*boxes, x[..., 4:]], axis=-1)


def decode_boxes(x: Tensor, grid: Tensor, stride: Any, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Decodes box coordinates.

    Args:
        x: Tensor of shape `(..., 4 or more)`, raw predictions after the sigmoid, coordinates
            first.
        grid: Tensor of shape `(..., 2)`, column and row of each prediction's cell.
        stride: Side of a cell in pixels.
        anchors: Tensor of shape `(..., 2)`, width and height of each prediction's anchor in
            pixels.

    Returns:
        Two tensors of shape `(..., 2)`: centres (x, y) and sides (width, height), in pixels.
    """
    return (2 * x[..., :2] - 0.5 + grid) * stride, ops.square(2 * x[..., 2:4]) * anchors


def image_size(raw: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """Returns `(height, width)`, in pixels, of the images that raw predictions belong to."""
    finest = min(raw, key=level_stride)
    rows, columns = ops.shape(raw[finest])[1:3]
    return rows * level_stride(finest), columns * level_stride(finest)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Turns predictions into detections: thresholds and NMS.

    Args:
        confidence_threshold: Number between 0 and 1. Detections whose confidence (objectness
            times class probability) is above it are kept.
        iou_threshold: Number between 0 and 1. If two detections of a class have a larger IoU, the
            less confident one is dropped.
        max_detections: Integer, the maximum number per image.
        multi_label: Boolean, whether a prediction may yield several classes or only its best.
        class_agnostic: Boolean, whether NMS also drops overlapping boxes of different classes.

    Raises:
        ValueError: If a threshold is not between 0 and 1, or `max_detections` is below 1.

    Example:

    >>> model.decoder = dataclasses.replace(model.decoder, confidence_threshold=0.001)

    Source: `non_max_suppression` in `YOLOv5-SPD/utils/general.py` of LabSAINT/SPD-Conv.
    """

    confidence_threshold: float = 0.25
    iou_threshold: float = 0.45
    max_detections: int = 300
    multi_label: bool = True
    class_agnostic: bool = False

    def __post_init__(self) -> None:
        for name in ("confidence_threshold", "iou_threshold"):
            value = getattr(self, name)
            if not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1:
                raise ValueError(
                    f"`{name}` must be between 0 and 1. Received: {getattr(self, name)!r}."
                )
            object.__setattr__(self, name, float(value))  # JSON takes no NumPy numbers
        count = check_integer("max_detections", self.max_detections)
        object.__setattr__(self, "max_detections", count)

    def __call__(
        self,
        raw: Mapping[str, Tensor],
        anchors: Anchors,
        bounding_box_format: str = "xyxy",
        single_class_logit: bool = False,
    ) -> dict[str, Tensor]:
        """Turns raw predictions of YOLOv5's head into keras-cv's detection dictionary.

        Args:
            raw, anchors, single_class_logit: As in `decode`.
            bounding_box_format: Format of the returned boxes.

        Returns:
            Dictionary of `boxes` `(images, max_detections, 4)`, `confidence` and `classes`
            `(images, max_detections)` and `num_detections` `(images,)`. Detections are sorted by
            confidence and padded with -1.

        Raises:
            ValueError: If `bounding_box_format` is unknown.
        """
        check_box_format(bounding_box_format)
        decoded = decode(raw, anchors, single_class_logit)
        return self.detections(decoded, image_size(raw), bounding_box_format)

    def detections(
        self,
        decoded: Tensor,
        image_size: tuple[Any, Any],
        bounding_box_format: str,
        *,
        jit_compile: bool = False,
    ) -> dict[str, Tensor]:
        """Applies NMS as `suppress` does, and returns the boxes in a given format.

        Args:
            decoded, jit_compile: As in `suppress`.
            image_size: `(height, width)` of the images in pixels.
            bounding_box_format: Format of the returned boxes.

        Returns:
            As in `__call__`.
        """
        detections = self.suppress(decoded, jit_compile=jit_compile)
        if bounding_box_format != "xyxy":
            kept = detections["classes"] >= 0
            boxes = convert_boxes(detections["boxes"], "xyxy", bounding_box_format, image_size)
            detections["boxes"] = ops.where(kept[..., None], boxes, -1.0)
        return detections

    def suppress(self, decoded: Tensor, *, jit_compile: bool = False) -> dict[str, Tensor]:
        """Applies NMS to decoded predictions.

        The most confident candidate is kept and those that overlap it are dropped, until
        `max_detections` are found or none are left.

        Args:
            decoded: Tensor of shape `(images, predictions, 5 + classes)`, as from `decode`.
            jit_compile: Boolean, whether XLA compiles the caller on TensorFlow. If not,
                TensorFlow's own operator is used, which is faster on a CPU.

        Returns:
            As in `__call__`, with xyxy boxes in pixels.
        """
        native = keras.backend.backend() == "tensorflow" and not jit_compile
        if native and (not self.class_agnostic or decoded.shape[-1] == 6):
            options = dataclasses.asdict(self)
            del options["class_agnostic"]
            return tensorflow_nms.suppress(decoded, **options)
        return self._suppress_in_chunks(decoded)

    def _suppress_in_chunks(self, decoded: Tensor) -> dict[str, Tensor]:
        """Implements `suppress` with Keras' operators.

        All images are processed at once, and candidates in chunks, most confident first; most
        chunks are never reached.
        """
        candidates = self._candidates(decoded)  # (images, candidates, 6), best first
        images, count = ops.shape(candidates)[:2]
        slots = ops.arange(self.max_detections, dtype="int32")[None]

        def chunks_left(chunk: Tensor, kept: Tensor, found: Tensor) -> Tensor:
            # If the best score of a chunk is 0 in all images, there is nothing left to keep.
            best = ops.take(candidates[..., 4], ops.minimum(chunk * _CHUNK, count - 1), axis=1)
            more = ops.any((best > 0) & (found < self.max_detections))
            return (chunk * _CHUNK < count) & more

        def keep_chunk(chunk: Tensor, kept: Tensor, found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            index = chunk * _CHUNK + ops.arange(_CHUNK, dtype="int32")
            rows = ops.take(candidates, ops.minimum(index, count - 1), axis=1)
            dropped = ops.any(self._suppresses(kept[:, None], rows[:, :, None]), axis=2)
            scores = ops.where(dropped | (index >= count)[None], 0.0, rows[..., 4])

            def some_left(scores: Tensor, kept: Tensor, found: Tensor) -> Tensor:
                return ops.any((scores > 0) & (found < self.max_detections)[:, None])

            def keep_one(
                scores: Tensor, kept: Tensor, found: Tensor
            ) -> tuple[Tensor, Tensor, Tensor]:
                best = ops.argmax(scores, axis=1)[:, None]
                row = ops.take_along_axis(rows, best[..., None], axis=1)  # (images, 1, 6)
                is_new = (ops.take_along_axis(scores, best, axis=1) > 0) & (
                    found[:, None] < self.max_detections
                )
                kept = ops.where((is_new & (slots == found[:, None]))[..., None], row, kept)
                itself = ops.arange(_CHUNK, dtype=best.dtype)[None] == best
                scores = ops.where(self._suppresses(row, rows) | itself, 0.0, scores)
                return scores, kept, found + ops.cast(is_new[:, 0], "int32")

            _, kept, found = ops.while_loop(some_left, keep_one, (scores, kept, found))
            return chunk + 1, kept, found

        kept = -ops.ones((images, self.max_detections, 6), "float32")
        found = ops.zeros((images,), "int32")
        start = (ops.convert_to_tensor(0, "int32"), kept, found)
        _, kept, found = ops.while_loop(chunks_left, keep_chunk, start)
        return {
            "boxes": kept[..., :4],
            "confidence": kept[..., 4],
            "classes": ops.cast(kept[..., 5], "int32"),
            "num_detections": found,
        }

    def _suppresses(self, kept: Tensor, rows: Tensor) -> Tensor:
        """Returns whether a detection suppresses a row; both are (x1, y1, x2, y2, score, class)."""
        overlaps = intersection_over_union(kept[..., :4], rows[..., :4]) > self.iou_threshold
        if self.class_agnostic:
            return overlaps
        return overlaps & (kept[..., 5] == rows[..., 5])

    def _candidates(self, decoded: Tensor) -> Tensor:
        """Returns rows (x1, y1, x2, y2, score, class), best first; score 0 if below threshold."""
        images, predictions, outputs = ops.shape(decoded)
        boxes = convert_boxes(decoded[..., :4], "center_xywh", "xyxy", (None, None))
        scores = decoded[..., 5:] * decoded[..., 4:5]
        num_classes = decoded.shape[-1] - 5
        multi_label = self.multi_label and num_classes > 1
        if multi_label:
            flat = ops.reshape(scores, (images, predictions * num_classes))
        else:
            flat = ops.max(scores, axis=-1)
        flat = ops.where(flat > self.confidence_threshold, flat, 0.0)
        count = ops.shape(flat)[1]
        count = (
            min(count, MAX_CANDIDATES)
            if isinstance(count, int)
            else ops.minimum(count, MAX_CANDIDATES)
        )
        scores_kept, index = ops.top_k(flat, count)
        prediction = index // num_classes if multi_label else index
        if multi_label:
            classes = index % num_classes
        else:
            classes = ops.take_along_axis(ops.argmax(scores, axis=-1), prediction, axis=1)
        boxes = ops.take_along_axis(boxes, prediction[..., None], axis=1)
        classes = ops.cast(classes, "float32")
        return ops.concatenate([boxes, scores_kept[..., None], classes[..., None]], axis=-1)
