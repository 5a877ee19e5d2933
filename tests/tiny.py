"""Small models other than the library's networks."""

import keras
import numpy as np

from keras_spd.applications import YOLOV5SPD, Detector, ImageModel, ModelInfo
from keras_spd.detection import Decoder

CAMERA_SIZE = (64, 96)
CAMERA_CELLS = (2, 3, 2)  # rows, columns and anchors


def tiny_classifier(classes=3, names=None, **facts):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    x = keras.layers.Dense(classes, activation="softmax", name="classes")(x)
    return ImageModel(inputs, x, name="tiny", info=ModelInfo(class_names=names, **facts))


def strided_classifier():
    """A network with each kind of layer that `to_spd` converts."""
    return keras.Sequential(
        [
            keras.Input((33, 32, 3)),
            keras.layers.Conv2D(4, 3, 2, padding="same"),
            keras.layers.DepthwiseConv2D(3, 2, padding="same"),
            keras.layers.AveragePooling2D(3, 2, padding="same"),
            keras.layers.Flatten(),
        ]
    )


def tiny_detector(input_range=(-1, 1), levels=("P3",)):
    """A detector on a backbone of its own, which takes scaled pixels."""
    x = inputs = keras.Input((None, None, 3))
    for _ in range(5):
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    backbone = ImageModel(inputs, x, name="own", info=ModelInfo(input_range=input_range))
    names = ("disc", "ball")
    options = {"backbone": backbone, "classes": 2, "class_names": names}
    return YOLOV5SPD((0.33, 0.125), levels=levels, **options)


def confident_detector(levels=("P3", "P4"), **options):
    """An untrained detector, sure of all its boxes, of which NMS drops none; with `thin_networks`.

    Exports only compare boxes of confidence 0.1 and more; initially, a detector has none. Kernels
    are larger than initial ones, so that boxes depend on the image.
    """
    model = YOLOV5SPD("n", classes=2, levels=levels, **options)
    for variable in model.network.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(3.0 * variable)
    for level in levels:
        bias = model.network.get_layer(f"head_{level.lower()}_conv").bias
        bias.assign(np.tile([0.0, 0, 0, 0, 2, 2, 2], 3))  # box, objectness, classes; 3 anchors
    model.decoder = Decoder(0.1, iou_threshold=1.0, max_detections=1000)
    return model


def one_layer_detector(**facts):
    """A detector of 12 boxes whose corners and confidences are sums over all pixels.

    Two different pictures have different boxes, always in the same order. Images are 64x96 pixels.
    """
    rng = np.random.default_rng(0)
    images = keras.Input((*CAMERA_SIZE, 3))
    see = keras.layers.Conv2D(CAMERA_CELLS[2] * 7, 32, strides=32, name="see")
    numbers = keras.layers.Reshape((*CAMERA_CELLS, 7))(see(images))
    offsets = np.zeros((*CAMERA_CELLS, 7), "float32")
    offsets[..., 4] = np.linspace(3, -0.5, offsets[..., 4].size).reshape(CAMERA_CELLS)
    offsets[..., 5], offsets[..., 6] = ([8, -8], [-8, 8])  # the classes of the two anchors
    network = keras.Model(images, {"P5": numbers + offsets})
    scale = np.tile([0.4] * 4 + [0.02] + [0.0] * 2, CAMERA_CELLS[2]) / np.sqrt(32 * 32 * 3)
    see.kernel.assign(rng.normal(0, 1, see.kernel.shape) * scale)
    return Detector(
        network,
        {"P5": ((8.0, 12.0), (40.0, 24.0))},
        info=ModelInfo(class_names=("a", "b"), input_range=(-1, 1), **facts),
        decoder=Decoder(confidence_threshold=0.1, iou_threshold=1.0),
        name="camera",
    )
