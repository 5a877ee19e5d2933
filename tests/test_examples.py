"""The examples run unchanged."""

import pathlib
import re
import runpy
import subprocess
import sys

import pytest
from thin import make_thin

import keras_spd

ROOT = pathlib.Path(__file__).parents[1]
THIN = ("detector_from_classifier.py", "fine_tune_converted.py")  # with networks of few layers


def few_cells(split, load=keras_spd.data.load_blood_cells):
    """The packaged cells as the examples load them, but 256 to train on and 64 to test on."""
    cells = load(split)
    images, labels = cells.batches(256 if split == "train" else 64)[0]
    return keras_spd.data.from_arrays(images.astype("uint8"), labels, cells.class_names)


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_example(script, tmp_path, monkeypatch, capsys):
    if script.name in THIN:
        make_thin(monkeypatch)
    if script.name != "detect.py":
        monkeypatch.setattr(keras_spd.data, "load_blood_cells", few_cells)
    monkeypatch.chdir(tmp_path)
    if script.name == "edge_device.py":  # which must not import TensorFlow
        command = [sys.executable, script, "--smoke"]
        result = subprocess.run(command, capture_output=True, text=True)
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
