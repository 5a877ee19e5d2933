"""Classifies three kinds of blood cells with features of the shipped CIFAR-10 weights.

    python examples/classify.py

Computes the features of the 817 training cells once and trains a dense layer on them. The two
become one model, which records its class names, is saved, and classifies the 614 test cells. The
folder `classify` then has pictures of some of them. To classify your own images, run
`keras-spd predict photos/ --weights classify/cells.keras`.

It printed:

    test accuracy 0.9186 on 614 cells
      WBC: WBC 0.65, RBC 0.35, Platelets 0.00
      RBC: RBC 0.92, WBC 0.08, Platelets 0.00
      Platelets: Platelets 0.98, WBC 0.01, RBC 0.01
      Platelets: Platelets 0.97, RBC 0.02, WBC 0.01
"""

import argparse
import dataclasses
import pathlib

import keras_spd
from keras_spd.applications import ImageModel, ResNet18SPD, preprocess_input

import keras
import numpy as np


def read(split, count):
    cells = keras_spd.data.load_blood_cells(split)
    images, labels = cells.batches(cells.num_images)[0]
    return images[:: len(images) // count], labels[:: len(images) // count], cells.class_names


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="fewer cells, for tests")
    smoke = parser.parse_args().smoke
    keras.utils.set_random_seed(0)
    images, labels, class_names = read("train", 100 if smoke else 817)

    features = ResNet18SPD(
        weights="cifar10", include_top=False, input_shape=(32, 32, 3), pooling="avg"
    )
    known = features.predict(preprocess_input(images, features.info.statistics), verbose=0)
    top = keras.Sequential(
        [keras.Input(known.shape[1:]), keras.layers.Dense(len(class_names), activation="softmax")]
    )
    top.compile("adam", "sparse_categorical_crossentropy")
    top.fit(known, labels, batch_size=32, epochs=20, verbose=0)

    info = dataclasses.replace(features.info, class_names=class_names)
    model = ImageModel(features.input, top(features.output), name="cells", info=info)
    folder = pathlib.Path("classify")
    folder.mkdir(exist_ok=True)
    model.save(folder / "cells.keras")

    classifier = keras_spd.predict.Classifier(folder / "cells.keras", batch_size=64)
    images, labels, _ = read("test", 50 if smoke else 614)
    images = images.astype("uint8")
    found = classifier(images)
    right = np.mean(
        [result.classes[0] == label for result, label in zip(found, labels, strict=True)]
    )
    print(f"test accuracy {right:.4f} on {len(images)} cells")
    for index in range(0, len(images), len(images) // 3):
        print(f"  {class_names[labels[index]]}: {found[index]}")
        picture = keras_spd.images.draw_classes(images[index], found[index])
        picture.save(folder / f"{index}.png")


if __name__ == "__main__":
    main()
