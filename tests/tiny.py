"""Small models other than the library's networks."""

import keras

from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo


def tiny_classifier(classes=3, names=None, **facts):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    x = keras.layers.Dense(classes, activation="softmax", name="classes")(x)
    return ImageModel(inputs, x, name="tiny", info=ModelInfo(class_names=names, **facts))


def tiny_detector(input_range=(-1, 1)):
    """A detector on a backbone of its own, which takes scaled pixels."""
    x = inputs = keras.Input((None, None, 3))
    for _ in range(5):
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    backbone = ImageModel(inputs, x, name="own", info=ModelInfo(input_range=input_range))
    names = ("disc", "ball")
    return YOLOV5SPD((0.33, 0.125), backbone=backbone, classes=2, class_names=names)
