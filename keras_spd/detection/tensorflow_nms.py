"""NMS by TensorFlow's own operator: the detections of `Decoder`, many times faster on a CPU."""

from keras import ops

from keras_spd.boxes import convert_boxes
from keras_spd.typing import Tensor


def suppress(
    decoded: Tensor,
    confidence_threshold: float,
    iou_threshold: float,
    max_detections: int,
    multi_label: bool,
) -> dict[str, Tensor]:
    """Applies NMS to each class, as `Decoder.suppress` does unless it is class-agnostic.

    XLA and TFLite cannot compile the operator. It uses all candidates, while the authors use the
    30,000 best: results can only differ if fewer than `max_detections` of these are kept.

    Args:
        decoded: As in `Decoder.suppress`.
        confidence_threshold, iou_threshold, max_detections, multi_label: As in `Decoder`.

    Returns:
        As in `Decoder.suppress`.
    """
    import tensorflow as tf

    boxes = convert_boxes(decoded[..., :4], "center_xywh", "xyxy", (None, None))
    scores = decoded[..., 5:] * decoded[..., 4:5]
    if not multi_label:
        best = ops.argmax(scores, axis=-1)
        scores = ops.where(ops.one_hot(best, scores.shape[-1], dtype="bool"), scores, 0.0)
    found = tf.image.combined_non_max_suppression(
        boxes[:, :, None],  # it takes (y, x, y, x), but IoU is the same
        scores,
        max_output_size_per_class=max_detections,
        max_total_size=max_detections,
        iou_threshold=iou_threshold,
        score_threshold=confidence_threshold,
        clip_boxes=False,
    )
    count = found.valid_detections
    there = ops.arange(max_detections, dtype="int32")[None] < count[:, None]
    return {
        "boxes": ops.where(there[..., None], found.nmsed_boxes, -1.0),
        "confidence": ops.where(there, found.nmsed_scores, -1.0),
        "classes": ops.where(there, ops.cast(found.nmsed_classes, "int32"), -1),
        "num_detections": count,
    }
