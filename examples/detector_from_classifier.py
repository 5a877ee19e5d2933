"""Starts a detector from a classifier, here a Keras network that is converted to SPD-Conv.

    python examples/detector_from_classifier.py --train bccd/train.json --test bccd/test.json

Trains a MobileNetV2 to classify 32x32 blood cells, converts it with `to_spd`, puts YOLOv5's neck
and head on it, and trains the detector. Then trains the same detector from random weights. Prints
the test accuracy of the classifier and COCO's scores of both detectors. Without `--train`, the
photos are composed of shipped cells.
"""

import argparse
import io

import keras_spd
from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo

import keras
import numpy as np
from PIL import Image

SIDE = 160  # pixels of the made photos


def build_classifier(classes):
    """MobileNetV2 with its rescaling inside: detectors give it pixels 0..255."""
    inputs = keras.Input((None, None, 3), name="images")
    features = keras.applications.MobileNetV2(
        weights=None,
        include_top=False,
        alpha=0.35,
        input_tensor=keras.layers.Rescaling(1 / 127.5, -1)(inputs),
    )
    for layer in features.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = (
                0.9  # the default, 0.999, needs far more steps than this example trains
            )
    x = keras.layers.GlobalAveragePooling2D()(features.output)
    outputs = keras.layers.Dense(classes, activation="softmax")(x)
    info = ModelInfo(input_range=(0, 255))
    backbone = ImageModel(features.inputs, features.outputs, info=info)
    return ImageModel(features.input, outputs, info=info), backbone


def photos(split, count):
    """Photos made of real cells on a gray ground, with their boxes."""
    cells, labels = keras_spd.data.load_blood_cells(split).batches(10_000)[0]
    random = np.random.default_rng(0)
    images = []
    for number in range(count):
        canvas = np.full((SIDE, SIDE, 3), 200, "uint8")
        boxes, classes = [], []
        for place in random.permutation(16)[:6]:
            cell = random.integers(len(cells))
            left, top = 40 * (place % 4) + random.integers(8), 40 * (place // 4)
            canvas[top : top + 32, left : left + 32] = cells[cell]
            boxes.append((left, top, left + 32, top + 32))
            classes.append(labels[cell])
        file = io.BytesIO()
        Image.fromarray(canvas).save(file, "PNG")
        images.append(
            keras_spd.data.BoxedImage(
                image_id=number,
                name=f"{split} {number}",
                source=file.getvalue,
                size_hw=(SIDE, SIDE),
                boxes=np.array(boxes, "float32"),
                classes=np.array(classes),
                crowd=np.zeros(len(boxes), bool),
            )
        )
    names = keras_spd.data.load_blood_cells(split).class_names
    return keras_spd.data.DetectionData(tuple(images), names, tuple(range(len(names))))


def train_classifier(model, epochs, steps=None):
    train, test = (keras_spd.data.load_blood_cells(split) for split in ("train", "test"))
    augmentation = keras_spd.data.Augmentation(crop_padding=2, horizontal_flip=True)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    batches = train.batches(32, shuffle=True, augmentation=augmentation)
    model.fit(batches, epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0)
    _, accuracy = model.evaluate(test.batches(128), verbose=0)
    print(f"classifier: test accuracy {accuracy:.4f}")


def train_detector(features, train, test, side, epochs):
    keras.utils.set_random_seed(0)
    model = YOLOV5SPD("n", classes=len(train.class_names), backbone=features)
    steps = epochs * (train.num_images // 8)
    warmup = min(500, steps // 4)
    model.compile(keras_spd.optimizers.paper_optimizer(0.005, warmup_steps=warmup))
    augmentation = keras_spd.data.DetectionAugmentation(horizontal_flip=0.5, scale=0.2)
    batches = train.batches(8, (side, side), shuffle=True, augmentation=augmentation)
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
    return keras_spd.evaluate(model, test, image_size=side).metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="as `keras-spd train --train` takes it")
    parser.add_argument("--test")
    parser.add_argument("--image-size", type=int, default=320, help="with --train")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--smoke", action="store_true", help="a few steps, for tests")
    options = parser.parse_args()
    if bool(options.train) != bool(options.test):
        parser.error("pass --train and --test together")
    epochs = 1 if options.smoke else options.epochs

    if options.train:
        train = keras_spd.data.load_detection(options.train)
        test = keras_spd.data.load_detection(options.test, class_names=train.class_names)
        side = options.image_size
    else:
        train, test = photos("train", 8 if options.smoke else 200), photos("test", 16)
        side = SIDE

    keras.utils.set_random_seed(0)
    model, features = build_classifier(classes=3)
    _, fresh = build_classifier(classes=3)
    train_classifier(model, *((1, 2) if options.smoke else (20,)))
    starts = [("from the classifier", features), ("from random weights", fresh)]
    for name, start in starts[: 1 if options.smoke else 2]:
        converted = keras_spd.to_spd(start)
        scores = train_detector(converted, train, test, side, epochs)
        print(f"detector {name}: AP {scores['AP']:.3f}, AP50 {scores['AP50']:.3f}")


if __name__ == "__main__":
    main()
