"""Starting from a trained classifier: other classes, and detectors."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
from drawings import write_drawings

from keras_spd import data
from keras_spd.applications import ResNet18SPD, ResNet34SPD, ResNetSPDBackbone
from keras_spd.training import fit, load_recipe, train
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.detection import DetectionTask
from keras_spd.training.start import load_backbone

NAMES = ("cat", "dog", "ship")


@pytest.fixture
def cells(rng):
    images = rng.integers(0, 256, (16, 16, 16, 3), "uint8")
    return data.from_arrays(images, np.arange(16) % 3, class_names=("ship", "fox", "kitten"))


def classifier(cells, weights, **overrides):
    fields = {"model.weights": str(weights), "model.class_map": {"kitten": "cat"}}
    recipe = load_recipe("few_images", overrides=fields | overrides)
    return ClassificationTask(recipe, cells, cells)


def save(model, path, statistics="tiny_imagenet"):
    """Saves a classifier as training does in its run folder."""
    facts = {"statistics": statistics, "class_names": NAMES}
    model.info = dataclasses.replace(model.info, **facts)
    model.save(path)
    return model


def detector(folder, **overrides):
    file = str(write_drawings(folder / "drawings", 4))
    few = {"data.train": file, "data.test": file, "data.image_size": (64, 64)}
    few |= {"epochs": 1, "batch_size": 4, "precision": "float32"}
    few |= {"model.options": {"levels": ["P3"]}}  # few layers
    return load_recipe("short_detection", overrides=few | overrides)


@pytest.mark.slow
def test_a_classifier_of_other_classes_keeps_what_it_knows(tmp_path, cells, thin_networks, caplog):
    trained = save(ResNet18SPD(classes=3), tmp_path / "model.keras")
    task = classifier(cells, tmp_path / "model.keras")
    model = fit.build(task)
    assert "the outputs of 1 of 3 classes (fox)" in caplog.text
    assert model.info.class_names == ("ship", "fox", "kitten")
    assert model.info.statistics == trained.info.statistics  # and not the recipe's
    assert model.input_shape == (None, 16, 16, 3) and model.info.image_size is None
    kernel, known = (np.array(m.get_layer("logits").kernel) for m in (model, trained))
    np.testing.assert_array_equal(kernel[:, [0, 2]], known[:, [2, 0]])
    assert not np.array_equal(kernel[:, 1], known[:, 1])
    others = [v for v in trained.variables if not v.path.startswith("logits/")]
    ours = {v.path: v for v in model.variables}
    for variable in others:
        np.testing.assert_array_equal(ours[variable.path], variable)


@pytest.mark.slow
def test_the_classes_of_a_preset(cells):
    model = fit.build(classifier(cells, "cifar10"))
    trained = ResNet18SPD(weights="cifar10")
    kernel, known = (np.array(m.get_layer("logits").kernel) for m in (model, trained))
    ship, cat = (trained.info.class_names.index(name) for name in ("ship", "cat"))
    np.testing.assert_array_equal(kernel[:, [0, 2]], known[:, [ship, cat]])
    assert model.info.statistics == trained.info.statistics


@pytest.mark.slow
def test_other_weights_are_refused(tmp_path, cells, thin_networks):
    with pytest.raises(ValueError, match="starts from the weights of a classifier.*yolov5"):
        keras.saving.save_model(fit.build(DetectionTask(detector(tmp_path))), tmp_path / "d.keras")
        classifier(cells, tmp_path / "d.keras")
    with pytest.raises(ValueError, match="train --model hf://someone/letters"):
        classifier(cells, pathlib.Path("hf://someone/letters"))
    save(ResNet18SPD(classes=3, downsampling="strided"), tmp_path / "strided.keras")
    with pytest.raises(ValueError, match="strided.keras does not fit `resnet18_spd`"):
        classifier(cells, tmp_path / "strided.keras")
    with pytest.raises(ValueError, match="is for detectors, and resnet18_spd is a classifier"):
        classifier(cells, "cifar10", **{"model.backbone": "cifar10"})
    recipe = load_recipe("few_images", overrides={"model.class_map": {"kitten": "cat"}})
    with pytest.raises(ValueError, match="`model.class_map` needs `model.weights`"):
        ClassificationTask(recipe, cells, cells)


def test_a_training_that_cannot_start_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="There is no file gone.keras"):
        train(detector(tmp_path, **{"model.weights": "gone.keras"}), tmp_path / "runs" / "gone")
    assert [*(tmp_path / "runs").iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, options",
    [
        (ResNet34SPD, {}),
        (ResNet18SPD, {"shortcut": "spd"}),
        (ResNet18SPD, {"downsampling": "strided", "stem_stride": 2}),
    ],
)
def test_a_backbone_is_of_the_kind_of_its_classifier(tmp_path, thin_networks, build, options):
    trained = save(build(classes=3, **options), tmp_path / "model.keras")
    backbone = load_backbone(str(tmp_path / "model.keras"))
    ours = {v.path: v for v in backbone.variables}
    for variable in trained.variables:
        if not variable.path.startswith("logits/"):
            np.testing.assert_array_equal(ours[variable.path], variable)
    assert backbone.info.statistics == trained.info.statistics
    backbone.save(tmp_path / "backbone.keras")  # which is also one
    again = load_backbone(str(tmp_path / "backbone.keras"))
    assert [v.path for v in again.variables] == [v.path for v in backbone.variables]


@pytest.mark.slow
def test_a_preset_is_a_backbone(tmp_path):
    model = fit.build(DetectionTask(detector(tmp_path, **{"model.backbone": "cifar10"})))
    expected = {v.path: v for v in ResNetSPDBackbone(18, weights="cifar10").variables}
    kernel = "stage3_block2_conv2/kernel"
    [ours] = [v for v in model.network.variables if v.path == kernel]
    np.testing.assert_array_equal(ours, expected[kernel])
    assert model.num_classes == 2 and model.info.preprocessing.takes_pixels


@pytest.mark.slow
def test_a_detector_on_a_classifier_is_trained_scored_and_resumed(tmp_path, thin_networks):
    save(ResNet18SPD(classes=3), tmp_path / "model.keras")
    overrides = {"model.backbone": str(tmp_path / "model.keras"), "freeze.layers": ["backbone"]}
    recipe = detector(tmp_path, **overrides)
    model = train(recipe, tmp_path / "run", verbose=0)
    assert (tmp_path / "run" / "results.json").is_file()
    assert load_recipe(tmp_path / "run" / "recipe.toml").model.backbone.endswith("model.keras")
    start = {v.path: v for v in load_backbone(recipe.model.backbone).variables}
    ours = {v.path: v for v in model.network.variables}
    path = next(path for path in start if path.startswith("stage1") and path.endswith("/kernel"))
    np.testing.assert_array_equal(ours[path], start[path])  # frozen
    (tmp_path / "model.keras").unlink()  # `start.keras` has its weights
    resumed = train(None, tmp_path / "run", resume=True, verbose=0)
    for again, before in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(again, before)


@pytest.mark.slow
def test_other_backbones_are_refused(tmp_path, thin_networks):
    with pytest.raises(ValueError, match="the detector 'yolov5_spd_n'.*`--weights`"):
        keras.saving.save_model(fit.build(DetectionTask(detector(tmp_path))), tmp_path / "d.keras")
        load_backbone(str(tmp_path / "d.keras"))
    both = {"model.backbone": "cifar10", "model.weights": "bccd"}
    with pytest.raises(ValueError, match="pass only one. Received: 'bccd' and 'cifar10'"):
        DetectionTask(detector(tmp_path / "both", **both))


@pytest.mark.slow
def test_images_are_resized_as_in_the_training_of_the_weights(tmp_path, thin_networks):
    for name, size in (("cat", 20), ("dog", 30)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(2):
            keras.utils.save_img(folder / f"{number}.png", np.zeros((size, 16, 3)))
    model = ResNet18SPD(classes=3)
    model.info = dataclasses.replace(model.info, resize="letterbox")
    save(model, tmp_path / "model.keras")
    split = str(tmp_path / "images")
    fields = {"model.weights": str(tmp_path / "model.keras"), "data.image_size": 16}
    fields |= {"data.train": split, "data.test": split, "data.name": None}
    task = ClassificationTask(load_recipe("few_images", overrides=fields))
    assert (
        task.train_data.resize == "letterbox"
        and fit.build(task).info.preprocessing.resize == "letterbox"
    )


def test_sigmoids_are_no_classes(cells):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    for last in (keras.layers.Activation("sigmoid"), keras.ops.sigmoid):
        model = keras.Model(inputs, last(x))
        with pytest.raises(ValueError, match='are sigmoids.*activation="softmax"'):
            ClassificationTask(load_recipe("few_images"), cells, cells, given=model)


def test_images_of_two_sizes_are_refused_before_training(cells, rng):
    other = data.from_arrays(
        rng.integers(0, 256, (4, 12, 12, 3), "uint8"), [0, 1, 2, 0], cells.class_names
    )
    with pytest.raises(ValueError, match=r"same size. Received: \(16, 16\) and \(12, 12\)"):
        ClassificationTask(load_recipe("few_images"), cells, other)


def test_a_size_that_has_no_effect_is_named(cells, caplog):
    recipe = load_recipe("few_images", overrides={"data.image_size": 64})
    ClassificationTask(recipe, cells, cells)
    assert "are 16x16 (height x width): `data.image_size` has no effect" in caplog.text
