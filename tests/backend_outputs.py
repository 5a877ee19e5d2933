"""Computes layers, a ResNet, a detector and their training on the backend in KERAS_BACKEND.

    KERAS_BACKEND=jax python tests/backend_outputs.py OUTPUTS.npz MODELS

Writes its models into the folder MODELS, or loads those that are there. Run by `test_backends.py`,
which compares the outputs of the backends. The networks are thin: JAX compiles each operation.
"""

import io
import pathlib
import sys
import tempfile

import keras
import numpy as np
import pytest
from PIL import Image
from thin import make_thin
from tiny import tiny_classifier

import keras_spd
from keras_spd.detection.heads import HEADS
from keras_spd.layers import SpaceToDepth, SPDConv
from keras_spd.training import fit
from keras_spd.training.run_folder import RunFolder


def numpy_weights(model):
    """Sets weights that do not depend on the backend, with non-trivial batch-norm statistics."""
    rng = np.random.default_rng(0)
    weights = []
    for variable in model.weights:
        if "variance" in variable.path or "gamma" in variable.path:
            weights.append(rng.uniform(0.5, 1.5, variable.shape))
        else:
            weights.append(rng.normal(0, 0.1, variable.shape))
    model.set_weights(weights)
    return model


def head_outputs(rng):
    """Boxes and confidences of the heads from keras-cv's parts."""
    outputs = {}
    for name in ("yolov8", "retinanet"):
        head = HEADS[name].build(["P3"])
        shape = (2, 3, 4, len(head.sides("P3")), head.loss_type.box_outputs + 2)
        raw = {"P3": rng.normal(0, 1, shape).astype("float32")}
        outputs[name] = head.decode(raw)
    return outputs


def detector_outputs(rng):
    """Raw predictions, loss, boxes, one epoch of training and its scores of a small detector."""
    model = keras_spd.applications.YOLOV5SPD((0.33, 0.125), classes=3, levels=("P3",))
    images = rng.uniform(0, 255, (2, 64, 96, 3)).astype("float32")
    raw = numpy_weights(model)(images)
    outputs = {f"raw_{level}": prediction for level, prediction in raw.items()}
    truth = {
        "boxes": np.array([[[4, 5, 30, 40], [50, 20, 60, 28]], [[1, 1, 90, 60], [-1] * 4]], "f4"),
        "classes": np.array([[0, 2], [1, -1]]),
    }
    loss = keras_spd.detection.YOLOV5Loss(3, label_smoothing=0.1)
    outputs |= loss.components(truth, raw)
    decoder = keras_spd.detection.Decoder(0.3, 0.5, max_detections=20)
    found = decoder({level: 3 * value for level, value in raw.items()}, model.anchors, "xyxy")
    outputs |= {name: 1.0 * keras.ops.convert_to_numpy(value) for name, value in found.items()}

    pixels = rng.integers(0, 256, (4, 64, 64, 3)).astype("uint8")
    boxed = tuple(
        keras_spd.data.BoxedImage(
            image_id=index,
            name=str(index),
            source=png(image),
            size_hw=(64, 64),
            boxes=np.array([[8, 8, 40, 30]], "float32"),
            classes=np.array([index % 3]),
            crowd=np.array([False]),
        )
        for index, image in enumerate(pixels)
    )
    boards = keras_spd.data.DetectionData(boxed, ("a", "b", "c"), (1, 2, 3))
    augmentation = keras_spd.data.DetectionAugmentation(mosaic=1.0, horizontal_flip=0.5)
    batches = boards.batches(2, (64, 64), shuffle=True, augmentation=augmentation)
    results, _ = keras_spd.predict.predict_coco(model, boards, 64, batch_size=2)
    outputs["coco_results"] = np.sort([one["score"] for one in results])[-20:]
    model.compile()
    history = model.fit(batches, epochs=1, verbose=0)
    outputs["finite_detector_loss"] = np.isfinite(history.history["loss"])
    scores = keras_spd.evaluate(model, boards, 64, batch_size=2)
    outputs["scored"] = np.isfinite([scores.metrics["AP"] + 1])
    return outputs


def run_of_a_recipe(rng):
    """Whether the loss falls in a run that is resumed, with an average of the weights."""
    labels = np.arange(16) % 3
    images = np.broadcast_to(80 * labels[:, None, None, None], (16, 16, 16, 3))
    images = (images + rng.uniform(0, 30, images.shape)).astype("uint8")
    cells = keras_spd.data.from_arrays(images, labels)
    overrides = {"epochs": 1, "batch_size": 8, "optimizer.average": 0.5}
    overrides |= {"optimizer.learning_rate": 0.05, "schedule.warmup_epochs": 0}
    recipe = keras_spd.training.load_recipe("demo", overrides=overrides)
    given = {"train_data": cells, "test_data": cells, "verbose": 0, "model": tiny_classifier()}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("draw_learning_curves", "draw_training_images"):  # have tests of their own
            patch.setattr(fit, name, lambda *arguments, **options: None)
        keras_spd.training.train(recipe, folder, **given)
        keras_spd.training.train(None, folder, resume=True, epochs=4, **given | {"model": None})
        losses = [row["loss"] for row in RunFolder(folder).read_log()]
    return np.array([len(losses) == 4 and losses[-1] < losses[0]])


def saved_outputs(folder):
    """Outputs of models that this or another backend has saved."""
    if not folder.exists():
        folder.mkdir()
        for name, model in models_to_save().items():
            numpy_weights(model).save(folder / f"{name}.keras")
    images = np.random.default_rng(2).uniform(0, 1, (2, 64, 96, 3)).astype("float32")
    outputs = {}
    for path in sorted(folder.iterdir()):
        small = path.stem == "resnet"  # a shape for which JAX has compiled these operations
        found = keras.saving.load_model(path)(images[:, :16, :18] if small else images)
        found = found if isinstance(found, dict) else {"outputs": found}
        outputs |= {f"saved_{path.stem}_{key}": value for key, value in found.items()}
    return outputs


def models_to_save():
    strided = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, 2, padding="same"),
            keras.layers.DepthwiseConv2D(3, 2, padding="same"),
            keras.layers.MaxPooling2D(3, 2, padding="same"),
        ]
    )
    converted = keras_spd.to_spd(strided, pooling="exact")
    return {
        "resnet": keras_spd.applications.ResNet18SPD(classes=3, shortcut="spd"),
        "detector": keras_spd.applications.YOLOV5SPD((0.33, 0.125), classes=3, levels=("P3",)),
        "converted": converted,
        "folded": keras_spd.fold(converted),
    }


def png(pixels):
    """Returns a function to the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue


def main(path, folder):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(2, 16, 18, 3)).astype("float32")
    odd = rng.normal(size=(2, 7, 9, 4)).astype("float32")
    outputs = {"space_to_depth": SpaceToDepth(3)(odd)}
    first = SpaceToDepth(2, data_format="channels_first")(odd.transpose(0, 3, 1, 2))
    outputs["channels_first"] = first
    layer = SPDConv(6, 3, 2, groups=2, padding="same")
    layer.build(odd.shape)
    outputs["spd_conv"] = numpy_weights(layer)(odd)

    inputs = keras.Input((None, None, 3))
    dynamic = keras.Model(inputs, SpaceToDepth(2)(inputs))
    outputs["unknown_sides"] = dynamic.predict(images[:, :7, :9], verbose=0)

    model = numpy_weights(keras_spd.applications.ResNet18SPD(classes=3, shortcut="spd"))
    outputs["resnet"] = model.predict(images, verbose=0)
    for level, maps in keras_spd.explain.feature_maps(model, images[0]).items():
        outputs[f"maps_{level}"] = maps
    layer = "stage3_block1_out"
    outputs["grad_cam"] = keras_spd.explain.grad_cam(model, images[0], 1, layer)

    labels = rng.integers(0, 3, 20)
    pixels = rng.integers(0, 256, (20, 16, 16, 3)).astype("uint8")
    train = keras_spd.data.from_arrays(pixels, labels)
    augmentation = keras_spd.data.Augmentation(crop_padding=1, horizontal_flip=True)
    preprocess = keras_spd.applications.preprocess_input
    tensors = keras.ops.convert_to_tensor(pixels[:2])
    outputs["preprocessed"] = preprocess(tensors)
    outputs["preprocessed_floats"] = preprocess(keras.ops.cast(tensors, "float32"))
    batches = train.batches(8, preprocess=preprocess, shuffle=True, augmentation=augmentation)
    small = tiny_classifier()
    small.compile("sgd", "sparse_categorical_crossentropy")
    history = small.fit(batches, epochs=1, verbose=0)
    outputs["finite_loss"] = np.isfinite(history.history["loss"])

    outputs |= detector_outputs(rng)
    outputs |= head_outputs(rng)
    outputs |= saved_outputs(pathlib.Path(folder))
    imported_tensorflow = "tensorflow" in sys.modules
    outputs["run_resumes_and_learns"] = run_of_a_recipe(rng)  # Keras' seeds import TensorFlow
    import tensorflow as tf

    outputs["preprocessed_in_tensorflow"] = preprocess(tf.constant(pixels[:2])).numpy()
    np.savez(path, **{name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()})
    print(imported_tensorflow)


if __name__ == "__main__":
    make_thin(pytest.MonkeyPatch())
    main(*sys.argv[1:])
