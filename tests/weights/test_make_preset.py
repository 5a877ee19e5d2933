"""`tools/make_preset.py`: from a run folder to shipped weights and their card."""

import dataclasses
import importlib
import json
import math
import pathlib
import re
import tomllib

import pytest
import tomli_w

from keras_spd.applications import ResNet18SPD
from keras_spd.files import write_json
from keras_spd.training import load_recipe
from keras_spd.training.run_folder import RunFolder
from keras_spd.weights import presets

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


@pytest.fixture
def make_preset(tmp_path, monkeypatch):
    """The script, which writes to a folder of the test."""
    monkeypatch.syspath_prepend(TOOLS)
    make_preset, write_cards = map(importlib.import_module, ("make_preset", "write_cards"))
    folder = tmp_path / "presets"
    folder.mkdir()
    for module, name in ((make_preset, "FOLDER"), (presets, "FOLDER"), (write_cards, "RECORDS")):
        monkeypatch.setattr(module, name, folder)
    monkeypatch.setattr(write_cards, "ZOO", tmp_path)
    presets._records.cache_clear()
    yield make_preset
    presets._records.cache_clear()


@pytest.fixture
def run(tmp_path, thin_networks):
    """The folder of a finished run that was resumed for more epochs."""
    folder = RunFolder(tmp_path / "run")
    options = {"downsampling": "strided", "stem_stride": 2}
    settings = {"model.options": options, "model.weights": "gone.keras"}
    folder.start(load_recipe("demo", overrides=settings), {"train": 8, "test": 8})
    model = ResNet18SPD(classes=6, input_shape=(32, 32, 3), **options)
    names = tuple(f"cell {index}" for index in range(6))
    model.info = dataclasses.replace(model.info, class_names=names)
    model.save(folder.model)
    results = {"test_accuracy": 0.5, "test_loss": 1.5, "training_seconds": 36000.0}
    choice = {"best_epoch": {"epoch": 2.0}, "last_epoch": {"epoch": 7.0}, "chosen_on": "validation"}
    write_json(folder.results, results | choice | {"evaluations": 3})
    environment = json.loads(folder.environment.read_text())
    environment["command"] = ["/bin/keras-spd", "train", "--data-dir", "/x", "--run=y", "--seed=1"]
    gpu = environment | {"accelerators": ["NVIDIA H100"]}
    gpu["command"] = ["/bin/keras-spd", "train", "--resume", "--run", "y", "--epochs", "8"]
    cpu = environment | {"accelerators": [], "processor": "Xeon", "cpus": 2}
    write_json(folder.environment, cpu | {"resumed": [gpu, gpu]})  # interrupted once
    return folder


@pytest.mark.slow
def test_the_run_says_what_the_card_says(tmp_path, make_preset, run):
    words = [str(run.path), "--name", "cells", "--bits", "7", "--dataset", "BCCD (MIT)"]
    words += ["--limit", "Other cells.", "--card", "latency=1 ms"]
    with pytest.raises(SystemExit, match="started from gone.keras: pass --license"):
        make_preset.main(words)
    for _ in range(2):  # the second time it replaces the first preset
        make_preset.main([*words, "--license", "Apache-2.0"])
    record = tomllib.loads((tmp_path / "presets/resnet18_strided_cells.toml").read_text())
    assert record["command"] == (
        "keras-spd train --run=RUN --seed=1 && keras-spd train --resume --run=RUN --epochs 8"
    )
    assert record["options"]["stem_stride"] == 2
    facts = record["card"]
    assert facts["epochs"] == "8 epochs, from the weights `gone.keras`"
    assert facts["hardware"] == "2 CPU cores (Xeon), then NVIDIA H100, float32"
    assert facts["training_time"] == "10.0 hours"
    assert facts["precision"] == "7 bits per weight, compressed"
    assert facts["chosen"] == "3, the best of 3 evaluations on 614 validation images"
    card = (tmp_path / "cells.md").read_text()
    assert "- Other cells." in card and "not recorded" not in card
    [preset] = presets.list_models()
    assert preset.file.stat().st_size == preset.size


@pytest.mark.slow
def test_a_run_that_started_from_the_weights_it_replaces(tmp_path, make_preset, run, monkeypatch):
    words = [str(run.path), "--name", "cells", "--bits", "7", "--dataset", "BCCD (MIT)"]
    words += ["--limit", "Other cells.", "--license", "Apache-2.0"]
    make_preset.main(words)
    options = {"downsampling": "strided", "stem_stride": 2}
    recipe = tomllib.loads(run.recipe.read_text())
    run.recipe.write_text(tomli_w.dumps(recipe | {"model": recipe["model"] | {"weights": "cells"}}))
    ResNet18SPD(weights="cells", input_shape=(32, 32, 3), **options).save(run.start_model)
    # The scores are those of the packed file, not of the run's model.
    pack = make_preset.pack
    monkeypatch.setattr(
        make_preset, "pack", lambda arrays, bits: pack({k: 0 * v for k, v in arrays.items()}, bits)
    )
    make_preset.main(words)
    record = tomllib.loads((tmp_path / "presets/resnet18_strided_cells.toml").read_text())
    assert record["command"].count("--run=RUN1") == record["command"].count("RUN ") == 2
    assert record["scores"]["test_loss"] == pytest.approx(math.log(6), abs=1e-6)
    card = (tmp_path / "cells.md").read_text()
    assert 'downsampling="strided", stem_stride=2' in card
    with pytest.raises(SystemExit, match="other weights than resnet18_strided_cells has now"):
        make_preset.main(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "bccd.v2"], "must be of the characters a-z, 0-9 and _, not 'bccd.v2'"),
        (["--card", "latency"], "must be FACT=TEXT, not 'latency'"),
        (["--card", "latncy=1 ms"], "Facts: parameters, .*latency"),
    ],
)
def test_wrong_arguments_end_it_at_once(make_preset, capsys, words, message):
    with pytest.raises(SystemExit):
        make_preset.main(["no-run", *words])
    assert re.search(message, capsys.readouterr().err)


def test_the_command_of_a_script_is_that_of_the_script(make_preset):
    environment = {"command": ["/home/me/train_cells.py", "--rate", "0.1", "--data-dir=/x"]}
    assert make_preset.describe_command(environment) == "python train_cells.py --rate 0.1"
    environment["command"] += [
        "--train",
        "/home/me/cells/train.json",
        "--test=/home/me/cells/t.json",
    ]
    assert make_preset.describe_command(environment).endswith(
        "--rate 0.1 --train cells/train.json --test=cells/t.json"
    )


def test_the_commands_of_earlier_runs_come_first(make_preset):
    first = "keras-spd train --epochs 9 --run=RUN && keras-spd train --resume --run=RUN"
    again = "keras-spd train --weights cells --run=RUN"
    second = make_preset.follow(first, again, "cells")
    assert second == (
        "keras-spd train --epochs 9 --run=RUN1 && keras-spd train --resume --run=RUN1 && "
        "keras-spd train --weights RUN1/model.keras --run=RUN"
    )
    without_run = make_preset.follow("python train_cells.py", again, "cells")
    assert without_run == (
        "python train_cells.py --run=RUN1 && keras-spd train --weights RUN1/model.keras --run=RUN"
    )
    third = make_preset.follow(second, "keras-spd train --weights=cells --run=RUN", "cells")
    assert third == (
        "keras-spd train --epochs 9 --run=RUN1 && keras-spd train --resume --run=RUN1 && "
        "keras-spd train --weights RUN1/model.keras --run=RUN2 && "
        "keras-spd train --weights=RUN2/model.keras --run=RUN"
    )


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model.name": "start.keras"}, "name='start.keras'"),
        ({"model.backbone": "backbone.keras"}, "backbone='backbone.keras'"),
        ({"model.options": {"head": "yolov8"}}, "options={'head': 'yolov8'}"),
    ],
)
def test_networks_that_no_preset_describes_are_refused(make_preset, settings, named):
    recipe = load_recipe("short_detection", overrides={"model.name": "yolov5_spd_n", **settings})
    with pytest.raises(SystemExit) as stop:
        make_preset.check_run(recipe, {"best_epoch": {"epoch": 0.0}})
    assert named in str(stop.value)


def test_networks_with_other_options_do_not_replace_a_preset(tmp_path, make_preset, run):
    (tmp_path / "presets/resnet18_strided_cells.toml").write_text(
        'options = {downsampling = "strided", stem_stride = 1}'
    )
    words = [str(run.path), "--name", "cells", "--bits", "7", "--dataset", "BCCD (MIT)"]
    with pytest.raises(SystemExit, match="other options. Choose another --name"):
        make_preset.main([*words, "--limit", "Other cells.", "--license", "Apache-2.0"])
    assert not list(tmp_path.glob("presets/*.gz"))
