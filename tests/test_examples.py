"""The examples run unchanged."""

import importlib.util
import os
import pathlib
import re
import runpy
import subprocess
import sys
import types

import pytest
from thin import make_thin

import keras_spd
from keras_spd.cli.main import app

ROOT = pathlib.Path(__file__).parents[1]
THIN = ("detector_from_classifier.py", "fine_tune_converted.py")  # with networks of few layers


def few_cells(split, load=keras_spd.data.load_blood_cells):
    """The packaged cells as the examples load them, but 256 to train on and 64 to test on."""
    cells = load(split)
    images, labels = cells.batches(256 if split == "train" else 64)[0]
    return keras_spd.data.from_arrays(images.astype("uint8"), labels, cells.class_names)


def run_here(command, check, stdout):
    """Runs a command of `edge_device.py` in this process, which has imported TensorFlow."""
    assert command[0] == sys.executable and check and stdout == subprocess.DEVNULL
    if command[1:3] == ["-m", "keras_spd"]:
        app(command[3:], standalone_mode=False)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", command[1:])
        runpy.run_path(command[1], run_name="__main__")


ON_THE_DEVICE = """
import sys
import edge_device
sys.argv = ["edge_device.py", "--smoke"]
edge_device.prepare = lambda folder: (folder / "bccd.tflite", folder / "slide.png")  # are there
edge_device.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_example(script, tmp_path, monkeypatch, capsys):
    if script.name in THIN:
        make_thin(monkeypatch)
    if script.name not in ("detect.py", "edge_device.py"):
        monkeypatch.setattr(keras_spd.data, "load_blood_cells", few_cells)
    monkeypatch.chdir(tmp_path)
    if script.name == "edge_device.py":  # which must not import TensorFlow; what it starts may
        spec = importlib.util.spec_from_file_location("edge_device", script)
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        example.subprocess = types.SimpleNamespace(run=run_here, DEVNULL=subprocess.DEVNULL)
        files = example.prepare(pathlib.Path("edge_device"))
        assert all(file.stat().st_size > 1000 for file in files)
        result = subprocess.run(
            [sys.executable, "-c", ON_THE_DEVICE],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(script.parent)},
        )
        assert result.returncode == 0, result.stderr
        printed = result.stdout
    else:
        monkeypatch.setattr(sys, "argv", [str(script), "--smoke"])
        runpy.run_path(str(script), run_name="__main__")
        printed = capsys.readouterr().out
    if script.name in ("detect.py", "edge_device.py"):  # they are short, and the smoke is the run
        said, found = (
            int(re.search(r"found (\d+) objects", text)[1])
            for text in (script.read_text(), printed)
        )
        assert abs(said - found) <= 2  # a processor's rounding may move a doubtful one
    else:
        assert "test accuracy" in printed
