"""Saved models in a fresh process, in which `import keras_spd` registers our classes."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from thin import make_thin
from tiny import strided_classifier

import keras_spd
from keras_spd.applications import (
    YOLOV5SPD,
    Detector,
    ImageModel,
    ModelInfo,
    ResNet18SPD,
    get_statistics,
)
from keras_spd.detection import YOLOV5Loss
from keras_spd.layers import SPDConv

LOAD = """
import dataclasses, json, pathlib, sys
import keras
of_keras = set(sys.modules)
import keras_spd
assert "keras_spd.keras_internals" in sys.modules  # which checks versions (test_imports.py)
heavy = {"tensorflow_datasets", "matplotlib", "pydantic", "pycocotools", "keras_cv"}
heavy |= {"typer", "ray", "gradio", "av"}
heavy &= set(sys.modules) - of_keras
assert not heavy, heavy

folder = pathlib.Path(sys.argv[1])
loaded = {path.stem: keras.saving.load_model(path) for path in folder.glob("*.keras")}

model = loaded["classifier"]
info = dataclasses.asdict(model.info)
print(json.dumps([type(model).__name__, info, model.pyramid_level_inputs]))

model = loaded["detector"]
assert type(model).__name__ == "Detector" and model.info.class_names == ("a", "b", "c")
assert model.bounding_box_format == "xywh" and model.decoder.iou_threshold == 0.3
assert list(model.levels) == ["P2", "P3"] and model.anchors["P2"][0] == (3.0, 4.0)
assert model.optimizer.decay_kernels_only and model.loss.label_smoothing == 0.1

import numpy as np
for name, model in loaded.items():
    model.run_eagerly = name == "detector"  # tracing NMS takes seconds
    found = model.predict(np.load(folder / f"{name}.npy"), verbose=0)
    np.savez(folder / f"{name}.npz", **(found if isinstance(found, dict) else {"outputs": found}))
"""


def classifier():
    model = ResNet18SPD(classes=2, input_shape=(16, 16, 3))
    facts = {"class_names": ("cat", "dog"), "statistics": get_statistics("cifar10")}
    model.info = dataclasses.replace(model.info, **facts)
    return model


def detector():
    """Trained for a step, with everything that differs from the default."""
    levels = ("P2", "P3")
    anchors = {level: ((3 * i, 4 * i), (5 * i, 5 * i)) for i, level in enumerate(levels, start=1)}
    names = ("a", "b", "c")
    options = {"levels": levels, "anchors": anchors, "bounding_box_format": "xywh"}
    model = YOLOV5SPD((0.33, 0.125), classes=3, class_names=names, **options)
    model.decoder = dataclasses.replace(model.decoder, confidence_threshold=0.0, iou_threshold=0.3)
    model.compile(loss=YOLOV5Loss(3, "xywh", anchors=anchors, label_smoothing=0.1))
    boxes = np.array([[[10, 10, 20, 24], [40, 20, 20, 30]]] * 2, "float32")
    truth = {"boxes": boxes, "classes": np.array([[0, 2]] * 2, "int32")}
    model.fit(np.full((2, 64, 96, 3), 99.0), truth, batch_size=2, verbose=0)
    return model


def converted():
    return keras_spd.to_spd(strided_classifier(), pooling="exact")


def plain():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, SPDConv(4, 3)(inputs))


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    """Models and their outputs here; the same of a fresh process, and what it printed."""
    folder, rng = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    models, expected = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        make_thin(patch)
        for build in (classifier, detector, converted, plain):
            name, model = build.__name__, build()
            sides = (64, 96) if name == "detector" else model.input_shape[1:3]
            high = 255 if name == "detector" else 1
            images = rng.uniform(0, high, (2, *sides, 3)).astype("float32")
            np.save(folder / f"{name}.npy", images)
            model.save(folder / f"{name}.keras")
            models[name], expected[name] = model, model.predict(images, verbose=0)
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    received = {name: dict(np.load(folder / f"{name}.npz")) for name in models}
    return models, expected, received, json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier", "converted", "plain"])
def test_outputs_are_the_same(reloaded, name):
    _, expected, received, _ = reloaded
    np.testing.assert_allclose(received[name]["outputs"], expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_classifier_keeps_its_info(reloaded):
    models, _, _, (name, info, levels) = reloaded
    assert name == "ImageModel" and type(models["classifier"]) is ImageModel
    assert ModelInfo.from_config(info) == models["classifier"].info
    assert levels == models["classifier"].pyramid_level_inputs


@pytest.mark.slow
def test_a_detector_finds_the_same(reloaded):
    _, expected, received, _ = reloaded
    found, reloaded = expected["detector"], received["detector"]
    assert (found["num_detections"] > 0).all() and found["boxes"].shape == (2, 300, 4)
    np.testing.assert_array_equal(reloaded["num_detections"], found["num_detections"])
    np.testing.assert_allclose(reloaded["confidence"], found["confidence"], rtol=1e-3)
    for image in range(2):  # boxes with the same confidence come in any order
        orders = [np.lexsort(each["boxes"][image].round().T) for each in (reloaded, found)]
        for key in ("boxes", "classes"):
            ours, theirs = reloaded[key][image], found[key][image]
            ours, theirs = ours[orders[0]], theirs[orders[1]]
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
def test_a_clone_of_a_detector_keeps_its_facts(reloaded):
    model = reloaded[0]["detector"]
    clone = keras.models.clone_model(model)
    assert isinstance(clone, Detector) and clone.info == model.info
    assert clone.decoder == model.decoder and clone.anchors == model.anchors
