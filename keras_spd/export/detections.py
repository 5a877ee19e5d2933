"""Decoding and NMS as builtin TFLite operators."""

import dataclasses
import itertools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_spd.boxes import convert_boxes
from keras_spd.detection.anchors import level_stride
from keras_spd.detection.decoding import Decoder
from keras_spd.detection.detector import Detector
from keras_spd.detection.heads import Head
from keras_spd.typing import Tensor

_CANDIDATES = 1000


class BuiltinDetections(keras.layers.Layer):
    """`Decoder` with TensorFlow's `NonMaxSuppressionV5`, which is a TFLite builtin.

    NMS sees the 1,000 most confident candidates of an image, where `Decoder` uses up to 30,000. At
    the thresholds used for prediction, few images have that many.

    Args:
        decoder: `Decoder`, the thresholds.
        head: `Head` of the detector.
        bounding_box_format: Format of the returned boxes.

    Input: raw predictions, of known shape for a TFLite file. Output: the detection dictionary of
    `Decoder`.
    """

    def __init__(
        self,
        decoder: Decoder,
        head: Head,
        bounding_box_format: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.decoder = decoder
        self.head = head
        self.bounding_box_format = bounding_box_format

    def call(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        import tensorflow as tf

        levels = sorted(raw, key=level_stride)
        maps = [ops.cast(raw[level], "float32") for level in levels]
        count, outputs = maps[0].shape[0], maps[0].shape[-1]
        grid = _PredictionGrid(
            sizes=[ops.shape(x)[1:3] for x in maps],
            strides=[level_stride(level) for level in levels],
            anchors=np.stack([self.head.sides(level) for level in levels]),
        )

        def suppress(one: list[Tensor]) -> dict[str, Tensor]:
            return self._suppress([tf.reshape(x, (-1, outputs)) for x in one], grid)

        if count is None:
            boxes = self.decoder.max_detections
            return tf.map_fn(
                suppress,
                maps,
                fn_output_signature={
                    "boxes": tf.TensorSpec((boxes, 4)),
                    "confidence": tf.TensorSpec((boxes,)),
                    "classes": tf.TensorSpec((boxes,), tf.int32),
                    "num_detections": tf.TensorSpec((), tf.int32),
                },
            )
        images = zip(*(tf.split(x, count) if count > 1 else [x] for x in maps), strict=True)
        found = [suppress(list(one)) for one in images]
        return {key: tf.stack([image[key] for image in found]) for key in found[0]}

    def _suppress(self, predictions: list[Tensor], grid: "_PredictionGrid") -> dict[str, Tensor]:
        """Decodes one image from raw predictions, `(predictions, outputs)` for each level."""
        import tensorflow as tf

        decoder = self.decoder
        # Only the best predictions are decoded; finding them is most of the work.
        best = tf.concat([self.head.confidence(x) for x in predictions], axis=0)
        best = tf.reshape(best, (-1,))
        chosen = self._choose(best)
        x = self.head.read(grid.gather(predictions, chosen), *grid.cells(chosen))
        boxes = convert_boxes(x[:, :4], "center_xywh", "xyxy", grid.image_size)
        scores = x[:, 5:] * x[:, 4:5]
        num_classes = scores.shape[1]
        # Among these, the best pairs of prediction and class.
        if decoder.multi_label and num_classes > 1:
            pairs = tf.reshape(scores, (-1,))
            index = self._choose(pairs)
            best, boxes = tf.gather(pairs, index), tf.gather(boxes, index // num_classes)
            classes = index % num_classes
        else:
            best, classes = tf.gather(best, chosen), tf.argmax(scores, axis=1)
        classes = tf.cast(classes, "int32")
        together = decoder.class_agnostic or num_classes == 1
        kept, _, count = tf.raw_ops.NonMaxSuppressionV5(
            boxes=boxes if together else move_apart(boxes, classes, num_classes),
            scores=best,
            max_output_size=decoder.max_detections,
            iou_threshold=decoder.iou_threshold,
            score_threshold=decoder.confidence_threshold,
            soft_nms_sigma=0.0,
            pad_to_max_output_size=True,
        )
        there = tf.range(decoder.max_detections) < count
        boxes = convert_boxes(boxes, "xyxy", self.bounding_box_format, grid.image_size)
        return {
            "boxes": tf.where(tf.expand_dims(there, 1), tf.gather(boxes, kept), -1.0),
            "confidence": tf.where(there, tf.gather(best, kept), -1.0),
            "classes": tf.where(there, tf.gather(classes, kept), -1),
            "num_detections": count,
        }

    def _choose(self, scores: Tensor) -> Tensor:
        """Returns the indices of the 1,000 best scores, those above the threshold first.

        Scores below the threshold are set to 0, so the runtime need not sort them.
        """
        import tensorflow as tf

        above = tf.nn.relu(scores - self.decoder.confidence_threshold)
        return tf.math.top_k(above, _at_most(_CANDIDATES, above))[1]


def move_apart(boxes: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Offsets boxes by class, so that class-agnostic NMS keeps classes apart.

    Each class gets its own square in a grid of squares around the origin, just large enough for
    the boxes. In a single row, 1,203 classes would extend to millions of pixels, where float32
    resolves only half a pixel.

    Args:
        boxes: Tensor of shape `(boxes, 4)`, xyxy in pixels.
        classes: Integer tensor of shape `(boxes,)`.
        num_classes: Integer.

    Returns:
        Tensor of shape `(boxes, 4)`. Its rounding error is that of float32 at
        `sqrt(num_classes) / 2` times the extent of all boxes.
    """
    import tensorflow as tf

    columns = math.ceil(math.sqrt(num_classes))
    cell = tf.stack([classes % columns, classes // columns], axis=1) - columns // 2
    side = tf.reduce_max(boxes) - tf.reduce_min(boxes) + 1.0
    return boxes + tf.tile(tf.cast(cell, "float32"), (1, 2)) * side


@dataclasses.dataclass(frozen=True)
class _PredictionGrid:
    """Cells and anchors of predictions that are numbered across all levels, finest first.

    Args:
        sizes: Rows and columns of each level: integers, or tensors if unknown.
        strides: Integers, one for each level, in pixels.
        anchors: Array of shape `(levels, anchors, 2)`, in pixels.
    """

    sizes: list
    strides: list
    anchors: np.ndarray

    @property
    def image_size(self) -> tuple[Any, Any]:
        """Height and width in pixels."""
        return tuple(side * self.strides[0] for side in self.sizes[0])

    @property
    def starts(self) -> list[Any]:
        """Index of each level's first prediction, followed by the total number of predictions."""
        num_anchors = self.anchors.shape[1]
        counts = [rows * columns * num_anchors for rows, columns in self.sizes]
        return [0, *itertools.accumulate(counts)]

    def cells(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the cells (column, row), strides and anchors of predictions."""
        import tensorflow as tf

        num_anchors = self.anchors.shape[1]
        level = sum(tf.cast(chosen >= start, "int32") for start in self.starts[:-1]) - 1
        columns = [columns for _, columns in self.sizes]
        start, columns = (
            tf.gather(tf.stack(numbers), level) for numbers in (self.starts[:-1], columns)
        )
        cell, anchor = (chosen - start) // num_anchors, (chosen - start) % num_anchors
        grid = tf.stack([cell % columns, cell // columns], axis=-1)
        stride = tf.gather(tf.constant(self.strides, "float32"), level)
        anchors = tf.gather(self.anchors.reshape(-1, 2), level * num_anchors + anchor)
        return tf.cast(grid, "float32"), tf.expand_dims(stride, 1), anchors

    def gather(self, predictions: list[Tensor], chosen: Tensor) -> Tensor:
        """Gathers rows from the predictions of all levels."""
        import tensorflow as tf

        rows = None
        for x, start, end in zip(predictions, self.starts[:-1], self.starts[1:], strict=True):
            found = tf.gather(x, tf.clip_by_value(chosen - start, 0, end - start - 1))
            mine = tf.expand_dims(chosen >= start, 1)
            rows = found if rows is None else tf.where(mine, found, rows)
        return rows


def _at_most(count: int, x: Tensor) -> Any:
    """Returns the smaller of `count` and the length of `x`, an integer if it is known."""
    length = ops.shape(x)[0]
    return min(count, length) if isinstance(length, int) else ops.minimum(count, length)


LAYER = "detections"


def with_detections(
    model: Detector, image_size: tuple[int, int], batch_size: int | None
) -> keras.Model:
    """Builds a functional model from pixels to the detections of a `Detector`.

    Args:
        model: `Detector`.
        image_size: `(height, width)` in pixels.
        batch_size: Integer, or `None` for any.

    Returns:
        Functional model from pixels 0..255, `(batch, height, width, 3)`, to the detection
        dictionary. Its layer for decoding and NMS is named `LAYER`.
    """
    inputs = keras.Input(batch_shape=(batch_size, *image_size, 3), name="images")
    batch = model.info.preprocessing.normalize_in_graph(inputs)
    decode = BuiltinDetections(model.decoder, model.head, model.bounding_box_format, name=LAYER)
    outputs = decode(model.network(batch))
    return keras.Model(inputs, outputs, name="serve")
