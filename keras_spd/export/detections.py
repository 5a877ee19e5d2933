"""Decoding and suppression as operators that TFLite has."""

import keras
from keras import ops

from keras_spd.boxes import convert_boxes
from keras_spd.detection.anchors import level_stride
from keras_spd.detection.decoding import decode

_CANDIDATES = 1000


class BuiltinDetections(keras.layers.Layer):
    """Does what `Decoder` does, with TensorFlow's `NonMaxSuppressionV5`, a builtin of TFLite.

    The 1,000 most confident candidates of an image go into suppression, where `Decoder` takes
    30,000; with the thresholds of a prediction there are never as many.

    Args:
        decoder: `Decoder`.
        anchors: As in `keras_spd.detection.decode`.
        bounding_box_format: Format of the boxes.

    Input: raw predictions, for a TFLite file of known shape. Output: the detection dictionary of
    `Decoder`.
    """

    def __init__(self, decoder, anchors, bounding_box_format, **kwargs):
        super().__init__(dtype="float32", **kwargs)
        self.decoder = decoder
        self.anchors = anchors
        self.bounding_box_format = bounding_box_format

    def call(self, raw):
        import tensorflow as tf

        finest = min(raw, key=level_stride)
        stride = level_stride(finest)
        image_size = tuple(side * stride for side in ops.shape(raw[finest])[1:3])
        decoded = decode(raw, self.anchors)
        if decoded.shape[0] is None:
            count = self.decoder.max_detections
            return tf.map_fn(
                lambda image: self._suppress(image, image_size),
                decoded,
                fn_output_signature={
                    "boxes": tf.TensorSpec((count, 4)),
                    "confidence": tf.TensorSpec((count,)),
                    "classes": tf.TensorSpec((count,), tf.int32),
                    "num_detections": tf.TensorSpec((), tf.int32),
                },
            )
        images = [
            self._suppress(image, image_size) for image in ops.unstack(decoded, decoded.shape[0])
        ]
        return {key: ops.stack([image[key] for image in images]) for key in images[0]}

    def _suppress(self, decoded, image_size):
        """Detections of one image from its predictions, `(predictions, 5 + classes)`."""
        import tensorflow as tf

        decoder = self.decoder
        boxes = convert_boxes(decoded[:, :4], "center_xywh", "xyxy", image_size)
        scores = decoded[:, 5:] * decoded[:, 4:5]
        num_classes = scores.shape[1]
        # The best predictions, and of these the best pairs of prediction and class.
        count = _at_most(_CANDIDATES, scores)
        best, prediction = ops.top_k(ops.max(scores, axis=1), count, sorted=True)
        boxes, scores = ops.take(boxes, prediction, axis=0), ops.take(scores, prediction, axis=0)
        if decoder.multi_label and num_classes > 1:
            flat = ops.reshape(scores, (-1,))
            best, index = ops.top_k(flat, _at_most(_CANDIDATES, flat), sorted=True)
            boxes = ops.take(boxes, index // num_classes, axis=0)
            classes = index % num_classes
        else:
            classes = ops.top_k(scores, 1)[1][:, 0]  # `argmax` of Keras is no builtin of TFLite
        classes = ops.cast(classes, "float32")
        # Boxes of different classes are moved apart, so that they do not overlap.
        apart = 0.0 if decoder.class_agnostic else 4.0 * ops.cast(ops.max(image_size), "float32")
        kept, _, count = tf.raw_ops.NonMaxSuppressionV5(
            boxes=boxes + apart * classes[:, None],
            scores=best,
            max_output_size=decoder.max_detections,
            iou_threshold=decoder.iou_threshold,
            score_threshold=decoder.confidence_threshold,
            soft_nms_sigma=0.0,
            pad_to_max_output_size=True,
        )
        there = ops.arange(decoder.max_detections, dtype="int32") < count
        boxes = convert_boxes(boxes, "xyxy", self.bounding_box_format, image_size)
        return {
            "boxes": ops.where(there[:, None], ops.take(boxes, kept, axis=0), -1.0),
            "confidence": ops.where(there, ops.take(best, kept, axis=0), -1.0),
            "classes": ops.cast(ops.where(there, ops.take(classes, kept, axis=0), -1.0), "int32"),
            "num_detections": count,
        }


def _at_most(count, x):
    """Returns `count`, or the length of `x` if that is less; an integer where it is known."""
    length = ops.shape(x)[0]
    return min(count, length) if isinstance(length, int) else ops.minimum(count, length)


LAYER = "detections"


def with_detections(model, image_size, batch_size):
    """Returns a functional model from images to the detections of a `Detector`.

    Args:
        model: `Detector`.
        image_size: `(height, width)`.
        batch_size: Integer.

    The layer that decodes and suppresses is called `LAYER`.
    """
    low, high = model.info.input_range
    inputs = keras.Input(batch_shape=(batch_size, *image_size, 3), name="images")
    pixels = inputs
    if (low, high) != (0.0, 255.0):
        pixels = keras.layers.Rescaling((high - low) / 255, low)(inputs)
    outputs = BuiltinDetections(
        model.decoder, model.anchors, model.bounding_box_format, name=LAYER
    )(model.network(pixels))
    return keras.Model(inputs, outputs, name="serve")
