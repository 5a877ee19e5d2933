"""Recipes: the shipped ones, and the errors for invalid ones."""

import dataclasses
import math
import pathlib

import pytest

from keras_spd.training import Recipe, list_recipes, load_recipe
from keras_spd.training.checks import check_updates
from keras_spd.training.classification import ClassificationTask
from keras_spd.training.command_line import choose_recipe, default_run_folder, merge_fields
from keras_spd.training.detection import DetectionTask
from keras_spd.training.fields import (
    ProgressiveResizing,
)
from keras_spd.training.optimizer import make_optimizer
from keras_spd.training.recipe import differences


@pytest.mark.parametrize("name", list_recipes())
def test_round_trip(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.description
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert load_recipe(tmp_path / "recipe.toml") == recipe
    assert make_optimizer(recipe, 100).get_config()


def test_the_authors_recipe_for_cifar10():
    recipe = load_recipe("paper", dataset="cifar10")
    assert (recipe.model.name, recipe.epochs, recipe.batch_size) == ("resnet50_spd", 500, 128)
    assert recipe.optimizer.model_dump() == {
        "name": "sgd",
        "accumulate_batches": 1,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 5e-4,
        "decay_kernels_only": False,
        "average": None,
        "clip_norm": None,
    }
    assert dataclasses.asdict(recipe.augmentation) == {
        "crop_padding": 4,
        "horizontal_flip": True,
        "vertical_flip": False,
        "rotation_degrees": 15,
        "rand_augment": 0,
        "cutout": 0,
        "mixup": 0,
        "cutmix": 0,
    }


def test_the_authors_schedule():
    """Epochs count from 1: at the start of epoch 60 the rate drops, after 59 whole epochs."""
    rate = make_optimizer(load_recipe("paper", dataset="cifar10"), 390)._learning_rate
    steps = [0, 195, 390, 59 * 390 - 1, 59 * 390, 119 * 390, 159 * 390, 499 * 390]
    expected = [0, 0.05, 0.1, 0.1, 0.02, 0.004, 0.0008, 0.0008]
    assert [float(rate(step)) for step in steps] == pytest.approx(expected)


def test_the_cosine_ends_at_zero_with_the_run():
    rate = make_optimizer(load_recipe("short", dataset="cifar10"), 100)._learning_rate
    steps = [0, 50, 100, 450, 800]
    assert [float(rate(s)) for s in steps] == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-7)


def test_the_fast_schedule_is_a_triangle():
    recipe = load_recipe("fast", overrides={"epochs": 10, "optimizer.learning_rate": 0.1})
    rate = make_optimizer(recipe, 100)._learning_rate
    rates = [float(rate(step)) for step in (0, 100, 200, 600, 1000)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.05, 0], abs=1e-7)


def test_images_grow_with_the_epochs():
    resizing = ProgressiveResizing(
        initial_scale=0.75, delay_fraction=0.3, finetune_fraction=0.3, size_increment=8
    )
    sides = [resizing.image_size((32, 32), epoch, 16)[0] for epoch in range(16)]
    assert sides == [24] * 8 + [32] * 8
    resizing = resizing.model_copy(update={"initial_scale": 0.5})
    sides = [resizing.image_size((32, 32), epoch, 16)[0] for epoch in range(16)]
    assert sides == [16] * 6 + [24] * 4 + [32] * 6
    assert resizing.image_size((48, 32), 0, 16) == (24, 16)
    assert resizing.image_size((32, 32), 0, 1) == (32, 32)
    assert ProgressiveResizing().image_size((30, 30), 0, 16) == (30, 30)


@pytest.mark.parametrize("delay", [0.0, 0.5, 1.0])
def test_the_last_epoch_has_the_full_size(delay):
    fractions = {"delay_fraction": delay, "finetune_fraction": min(0.5, 1 - delay)}
    resizing = ProgressiveResizing(initial_scale=0.5, **fractions)
    sides = [resizing.image_size((30, 30), epoch, 8)[0] for epoch in range(8)]
    assert sides == sorted(sides)
    assert sides[-1] == 30  # not a multiple of the increment


def test_overrides():
    recipe = load_recipe("demo", overrides={"optimizer.momentum": 0.8, "epochs": 2})
    assert (recipe.optimizer.momentum, recipe.epochs) == (0.8, 2)
    assert load_recipe("short", dataset="cifar10").data.name == "cifar10"
    whole = load_recipe(
        "fast", overrides={"augmentation": {"cutout": 8}, "model.options": {"a": 1}}
    )
    assert (whole.augmentation.cutout, whole.augmentation.crop_padding) == (8, 2)
    assert whole.model.options == {"a": 1}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimiser.momentum": 1}, "optimiser: unknown field. Did you mean `optimizer`"),
        ({"task": "detection", "data.tile": 16}, r"data.tile: .*at least 32 pixels.* tile=16"),
        ({"task": "detection", "data.tile_overlap": 1}, "less than or equal to 0.5. Received: 1"),
        ({"optimizer.momentom": 1}, "optimizer.momentom: unknown field. Did you mean `momentum`"),
        ({"data.xyz": 1}, "data.xyz: unknown field. Known fields: name, train"),
        ({"epochs": 0}, "epochs: Input should be greater than or equal to 1. Received: 0"),
        ({"schedule.name": "step"}, "schedule.name: Input should be 'multistep', 'cosine' or"),
        ({"epochs.x": 0}, "`epochs` has no fields"),
        ({"epochs": {"x": 0}}, "epochs: Input should be a valid integer"),
        ({"epochs": True}, "  epochs: it must be a number. Received: True.$"),
        ({"augmentation": {"cutout": True}}, "  augmentation.cutout: it must be a number. Rec"),
        ({"optimizer.average": False}, "optimizer.average: Input should be greater than 0"),
        ({"optimizer.learning_rate": math.inf}, "learning_rate: Input should be a finite number"),
        ({"data.validation": "10%"}, "data.validation: .* a fraction, such as 0.1 for 10 %"),
        (
            {"augmentation.mixap": 1},
            "augmentation.mixap: unknown field. Did you mean `mixup`",
        ),
        (
            {"augmentation.mixup": -1},
            "augmentation: `mixup` must be at least 0. Received: mixup=-1.0.$",
        ),
        (
            {"augmentation.horizontal_flip": "often"},
            r"augmentation.horizontal_flip.literal\['alternating'\]: Input should be 'alternating'",
        ),
    ],
)
def test_wrong_fields(overrides, message):
    task = overrides.get("task")
    with pytest.raises(ValueError, match=message):
        load_recipe("short" if task else "demo", task=task, overrides=overrides)


def test_wrong_files(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe 'paper'. Shipped recipes: \['demo'"):
        load_recipe("paper")
    with pytest.raises(ValueError, match="no recipe 'paper' or 'paper_mnist'"):
        load_recipe("paper", dataset="mnist")
    with pytest.raises(ValueError, match=r"Cannot read the recipe .*none.toml"):
        load_recipe(tmp_path / "none.toml")
    for content, message in (
        ("data = 3", "`data.name`: `data` has no"),
        ("task = [1]", "bad.toml: `task`"),
        ("model = 3", r"bad.toml:\n  model"),
        ("[task]", "bad.toml: `task`"),
    ):
        (tmp_path / "bad.toml").write_text(content)
        with pytest.raises(ValueError, match=message):
            load_recipe(tmp_path / "bad.toml", dataset="cifar10")
    for content in ("epochs = = 3", "x = " + "[" * 5000):
        (tmp_path / "bad.toml").write_text(content)
        with pytest.raises(ValueError, match=r"Cannot read the recipe .*bad.toml"):
            load_recipe(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("task", "name", "message"),
    [
        (ClassificationTask, "resnet20_spd", "no classifier 'resnet20_spd'.*resnet18_spd, resnet3"),
        (ClassificationTask, "yolov5_spd_n", "no classifier 'yolov5_spd_n'"),
        (DetectionTask, "yolov5_spd_q", "no detector 'yolov5_spd_q'.*yolov5_spd_n, yolov5_spd_s"),
    ],
)
def test_wrong_model(task, name, message):
    recipe = Recipe.model_validate({"model": {"name": name}})
    with pytest.raises(ValueError, match=message):
        task(recipe)


def test_the_task_chooses_the_recipe():
    detection = load_recipe("short", task="detection", dataset="voc/2012")
    assert (detection.task, detection.data.name) == ("detection", "voc/2012")
    assert detection.model.name == "yolov5_spd_n"
    assert load_recipe("short", task="classification").task == "classification"
    with pytest.raises(ValueError, match="demo is not for detection"):
        load_recipe("demo", task="detection")


@pytest.mark.parametrize("task", [None, "detection"])
def test_an_unknown_task(tmp_path, task):
    (tmp_path / "own.toml").write_text('task = "detecton"\n[data]\nimage_size = 64\n')
    message = "`task` must be one of classification, detection. Received: 'detecton'"
    with pytest.raises(ValueError, match=message):
        load_recipe(tmp_path / "own.toml", task=task)


def test_the_dataset_of_set_is_that_of_the_option():
    train = {"data.train": "train", "data.test": "validation"}
    recipe, _ = choose_recipe(train, ["data.name=voc/2012"], "short")
    assert recipe.data.name == "voc/2012"


def test_the_authors_recipe_for_coco():
    recipe = load_recipe("paper", task="detection")
    optimizer = make_optimizer(recipe, 100)
    assert (recipe.epochs, recipe.data.name) == (300, "coco/2017")
    assert (
        optimizer.get_config().items()
        >= {
            "momentum": 0.937,
            "nesterov": True,
            "decay_kernels_only": True,
            "warmup_steps": 300,
            "warmup_bias_rate": 0.1,
            "warmup_momentum": 0.8,
        }.items()
    )
    rate = optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 150, 300, 30000)] == pytest.approx(
        [0, 0.005, 0.01, 0.001]
    )


def test_tiles_are_for_detectors():
    options = {"model.name": "resnet18_spd", "data.name": "cifar10", "data.tile": (64, 64)}
    with pytest.raises(ValueError, match="`--tile` is for detectors"):
        choose_recipe(options)


@pytest.mark.parametrize(
    ("train", "name"),
    [
        ("boards/train.json", "boards"),
        ("boards/annotations/instances_train2017.json", "boards"),
        ("boards/data.yaml:train", "boards"),
        ("VOC2012:train", "VOC2012"),
        (r"C:\data\boards.json", "boards"),
        (r"C:\data\data.yaml:train", "data"),
    ],
)
def test_the_run_folder_is_named_after_the_data(train, name):
    recipe = load_recipe("short_detection", overrides={"data.train": train})
    assert str(default_run_folder(recipe)) == str(pathlib.Path("runs", f"yolov5_spd_n_{name}_0"))


def test_values_of_set_are_json_or_toml():
    """As docs/recipes.md writes them, and as other tools do."""
    toml, json = (
        merge_fields({}, [f"loss.iou={text}"])
        for text in ("{ciou = 0.5, nwd = 0.5}", '{"ciou": 0.5, "nwd": 0.5}')
    )
    assert toml == json == {"loss.iou": {"ciou": 0.5, "nwd": 0.5}}
    with pytest.raises(ValueError, match=r"loss.iou: `iou` must be one of 'ciou', 'wiou', 'nwd'"):
        load_recipe("short", task="detection", overrides={"loss.iou": "nwdd"})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("loss.class_weights", "equal", 'it must be "balanced", or factors above 0'),
        ("loss.class_weights", {"a": -2}, 'it must be "balanced", or factors above 0'),
        ("loss.class_weights", [1, 2], 'it must be "balanced", or factors above 0'),
        ("freeze.layers", "[backbone]", "it must be a list of quoted strings"),
    ],
)
def test_how_to_write_a_value_is_said(field, value, message):
    with pytest.raises(ValueError, match=f"{field}: {message}"):
        load_recipe("short", task="detection", overrides={field: value})


def test_a_detector_or_its_recipe_decides_the_task():
    assert load_recipe("short", overrides={"model.name": "yolov5_spd_s"}).task == "detection"
    assert load_recipe("finetune", task="detection").task == "detection"
    with pytest.raises(ValueError, match='is for detectors: pass `task="detection"`'):
        load_recipe("finetune")
    assert load_recipe("demo", overrides={"freeze.layers": "stem"}).freeze.layers == ["stem"]


def test_weights_that_are_set_choose_the_recipe_too():
    fields = {"model.name": "resnet18_spd", "data.train": "a", "data.test": "b"}
    chosen, _ = choose_recipe(fields, ["model.weights=mine.pt"])
    assert chosen.description == load_recipe("few_images").description


def test_too_few_batches_for_an_update_are_refused():
    recipe = load_recipe("demo", overrides={"epochs": 2, "optimizer.accumulate_batches": 8})
    check_updates(recipe, steps_per_epoch=4)
    with pytest.raises(ValueError, match="at most the number of batches of the run, 6.*Received"):
        check_updates(recipe, steps_per_epoch=3)


def test_missing_test_data_is_named(tmp_path):
    recipe = load_recipe("short", task="detection", overrides={"data.train": str(tmp_path)})
    with pytest.raises(ValueError, match="no test data: set `data.test`"):
        DetectionTask(recipe)


def test_of_similar_networks_the_smallest_is_suggested():
    with pytest.raises(ValueError, match=r"Did you mean yolov5_spd_n\?"):
        choose_recipe({"model.name": "yolov5_spd"}, [], "short")


def test_a_tuple_is_the_list_of_a_file(tmp_path):
    options = {"model.options": {"levels": ("P3", "P4")}}
    recipe = load_recipe("short", task="detection", overrides=options)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert differences(load_recipe(tmp_path / "recipe.toml"), recipe) == []


def test_the_same_size_twice_is_no_contradiction():
    fields = merge_fields({"data.image_size": (320, 320)}, ["data.image_size=[320, 320]"])
    assert list(fields["data.image_size"]) == [320, 320]
