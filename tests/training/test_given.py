"""Training a given model instead of a recipe's network."""

import json
import logging

import keras
import numpy as np
import pytest
from drawings import write_drawings
from tiny import tiny_classifier, tiny_detector

from keras_spd import data, to_spd
from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo
from keras_spd.surgery.quantize_aware import Range
from keras_spd.training import fit, load_recipe, train
from keras_spd.training.classes import with_classes
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.copies import copy_model
from keras_spd.training.run_folder import RunFolder

FEW = {"epochs": 1, "batch_size": 8, "precision": "mixed_bfloat16"}


@pytest.fixture
def cells():
    images, labels = data.load_blood_cells("train").batches(64)[0]
    images, names = images[:, ::2, ::2], ("basophil", "red", "white")
    parts = slice(48), slice(48, 64)
    return [data.from_arrays(images[part], labels[part], class_names=names) for part in parts]


@pytest.mark.slow
def test_a_converted_detector_is_trained_scored_and_resumed(tmp_path, caplog, thin_networks):
    file = str(write_drawings(tmp_path / "drawings", 8))
    few = FEW | {"data.train": file, "data.test": file, "data.image_size": [64, 64]}
    few |= {"model.class_map": {"rectangle": "ball"}}
    recipe = load_recipe("finetune", task="detection", overrides=few)
    given = to_spd(tiny_detector())
    model = train(recipe, tmp_path / "run", model=given, verbose=0)
    assert model.info.class_names == ("rectangle", "disc")
    assert model.info.input_range == given.info.input_range  # scaled inside, for the backbone
    assert model.info.image_size == (64, 64)
    assert model.compute_dtype == "float32"
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["model"] == model.name and 0 <= results["AP"] <= 1
    assert "initialised" not in caplog.text
    resumed = train(None, tmp_path / "run", resume=True, verbose=0)
    assert "initialised" not in caplog.text
    for ours, theirs in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [row["epoch"] for row in RunFolder(tmp_path / "run").read_log()] == [0]


@pytest.mark.slow
def test_a_classifier_of_a_file_is_trained(tmp_path, cells):
    given = tiny_classifier(names=("white", "red", "basophil"), input_range=(0, 1))
    given.save(tmp_path / "tiny.keras")
    recipe = load_recipe("demo", overrides=FEW | {"optimizer.learning_rate": 1e-9})
    options = {"train_data": cells[0], "test_data": cells[1], "verbose": 0}
    model = train(recipe, tmp_path / "run", model=tmp_path / "tiny.keras", **options)
    assert model.info.class_names == ("basophil", "red", "white")
    assert model.info.statistics is None and model.info.input_range == (0, 1)
    # Almost nothing was learned: the outputs are the given model's, in the order of the data.
    kernel = np.array(given.get_layer("classes").kernel)[:, [2, 1, 0]]
    np.testing.assert_allclose(model.get_layer("classes").kernel, kernel, atol=1e-5)
    (tmp_path / "tiny.keras").unlink()  # the run folder has it
    assert load_recipe(tmp_path / "run" / "recipe.toml").model.name.endswith("tiny.keras")
    train(None, tmp_path / "run", resume=True, **options)


@pytest.mark.slow
def test_outputs_of_a_detector_by_name(rng, thin_networks):
    model = tiny_detector()
    images = rng.uniform(-1, 1, (1, 64, 64, 3)).astype("float32")
    changed = with_classes(model, ("cube", "disc", "cone"), {"cone": "ball"})
    for level, theirs in model(images).items():
        ours = np.array(changed(images)[level])[..., [0, 1, 2, 3, 4, 6, 7]]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert changed.num_classes == 3 and changed.anchors == model.anchors
    same = with_classes(changed, ("cube", "disc", "cone"))
    np.testing.assert_array_equal(same(images)["P3"], changed(images)["P3"])


@pytest.mark.slow
@pytest.mark.parametrize("head", ["yolov8", "retinanet"])
def test_outputs_of_other_heads_by_name(head, thin_networks, rng):
    model = YOLOV5SPD("n", classes=2, class_names=("disc", "ball"), head=head)
    images = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    changed = with_classes(model, ("cube", "disc", "cone"), {"cone": "ball"})
    boxes = range(model.head.loss_type.box_outputs)
    for level, theirs in model(images).items():
        ours = np.array(changed(images)[level])[..., [*boxes, len(boxes) + 1, len(boxes) + 2]]
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert changed.num_classes == 3 and changed.head == model.head


def test_a_copy_computes_in_another_precision():
    copy = copy_model(tiny_classifier(), "mixed_bfloat16")
    policies = {layer.name: layer.compute_dtype for layer in copy.layers}
    assert policies["stem"] == "bfloat16" and policies["classes"] == "float32"
    assert all(variable.dtype == "float32" for variable in copy.variables)


def test_a_model_that_does_not_say_how_images_are_normalised(tmp_path, cells, caplog):
    from keras_spd.training.classification import ClassificationTask

    recipe = load_recipe("demo", overrides=FEW)
    with caplog.at_level(logging.WARNING):
        model = ClassificationTask(recipe, *cells, given=tiny_classifier()).build()
    assert "`tiny` does not define how its images are normalised" in caplog.text
    assert model.info.statistics == recipe_statistics(recipe)


def recipe_statistics(recipe):
    from keras_spd.applications import get_statistics

    return get_statistics(recipe.data.statistics)


@pytest.mark.parametrize(
    "task, given, overrides, message",
    [
        ("classification", tiny_detector, {}, "Received: start.keras, the Detector"),
        ("detection", tiny_classifier, {}, "trains a `keras_spd.applications.Detector`"),
        (
            "classification",
            tiny_classifier,
            {"model.weights": "cifar10"},
            "`model.weights` applies to",
        ),
        ("classification", lambda: tiny_classifier(2, ("a", "b")), {}, "images of .16, 16, 3."),
    ],
)
def test_refused_input(tmp_path, cells, task, given, overrides, message):
    recipe = load_recipe(
        "short", task=task, dataset="cifar10" if task != "detection" else None, overrides=overrides
    )
    if message.startswith("images of"):
        cells = [data.from_arrays(np.zeros((8, 24, 24, 3), "uint8"), np.arange(8) % 2)] * 2
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path, model=given(), train_data=cells[0], test_data=cells[1])


def test_a_recipe_without_its_model(tmp_path, cells):
    recipe = load_recipe("demo", overrides={"model.name": "start.keras"})
    with pytest.raises(ValueError, match="model was passed in Python. Pass a model as well"):
        train(recipe, tmp_path, train_data=cells[0], test_data=cells[1])


@pytest.mark.slow
def test_training_for_8_bits(tmp_path, caplog, thin_networks):
    file = str(write_drawings(tmp_path / "drawings", 8))
    few = {"data.train": file, "data.test": file, "data.image_size": [64, 64]}
    few |= {"model.class_map": {"rectangle": "ball"}, "epochs": 1, "batch_size": 4}
    few |= {"quantize_aware": True, "precision": "float32"}
    recipe = load_recipe("finetune", task="detection", overrides=few)
    with pytest.raises(ValueError, match="Pass it: `--weights`, or `model` in Python"):
        train(recipe, tmp_path / "none", verbose=0)
    other = load_recipe(
        "finetune", task="detection", overrides=few | {"precision": "mixed_bfloat16"}
    )
    with pytest.raises(ValueError, match='trains in float32.*precision="mixed_bfloat16"'):
        train(other, tmp_path / "none", model=tiny_detector(), verbose=0)
    model = train(recipe, tmp_path / "run", model=tiny_detector(levels=("P3", "P4")), verbose=0)
    ranges = [layer for layer in model.network.layers if isinstance(layer, Range)]
    assert len(ranges) > 5 and all(float(layer.high) > float(layer.low) for layer in ranges)
    assert model.info.class_names == ("rectangle", "disc")
    resumed = train(None, tmp_path / "run", resume=True, verbose=0)
    for ours, theirs in zip(resumed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_outputs_that_cannot_be_changed():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
    model = ImageModel(inputs, keras.layers.Softmax()(x), info=ModelInfo(class_names=("a", "b")))
    assert with_classes(model, ("a", "b")).info.class_names == ("a", "b")  # nothing to change
    with pytest.raises(ValueError, match="do not come from a dense layer.* 2, and the data 3"):
        with_classes(model, ("a", "b", "c"))


def test_a_classifier_of_any_size_records_the_size_of_the_data(cells):
    inputs = keras.Input((None, None, 3))
    outputs = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(inputs))
    given = ImageModel(inputs, outputs, info=ModelInfo(input_range=(0, 1), image_size=(224, 224)))
    model = ClassificationTask(load_recipe("demo", overrides=FEW), *cells, given=given).build()
    assert model.info.image_size == (16, 16)


def test_a_given_model_of_mixed_precision_becomes_float32(cells):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        given = tiny_classifier(input_range=(0, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    task = ClassificationTask(load_recipe("demo", overrides=FEW), *cells, given=given)
    assert {layer.compute_dtype for layer in fit.build(task).layers} == {"float32"}


def test_a_single_class_is_refused():
    one = data.from_arrays(np.zeros((4, 16, 16, 3), "uint8"), np.zeros(4, int), ("cat",))
    with pytest.raises(ValueError, match="at least two classes.*only cat"):
        ClassificationTask(load_recipe("demo"), one, one)
