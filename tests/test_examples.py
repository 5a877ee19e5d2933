"""The examples and the README's Python run as they stand."""

import pathlib
import re
import subprocess
import sys

import pytest
from drawings import write_drawings

from keras_spd.demo import run_demo

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_example(script, tmp_path):
    result = subprocess.run(
        [sys.executable, script, "--smoke"], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    if script.name in ("detect.py", "edge_device.py"):  # they are short, and the smoke is the run
        said, printed = (
            int(re.search(r"found (\d+) objects", text)[1])
            for text in (script.read_text(), result.stdout)
        )
        assert abs(said - printed) <= 2  # a processor's rounding may move a doubtful one
    else:
        assert "test accuracy" in result.stdout


@pytest.mark.slow
def test_readme(tmp_path):
    """Each block in a process of its own, in a folder where the demo has run and data lie."""
    run_demo(tmp_path / "demo", epochs=1, say=lambda line: None)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    printed = ""
    labels = write_drawings(tmp_path / "boards")
    for name in ("train.json", "test.json"):
        labels.with_name(name).write_text(labels.read_text())
    for block in blocks:
        block = block.replace("epochs=40", "epochs=1")
        result = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        printed += result.stdout
    assert re.search(r"\[\[\(\d, '(RBC|WBC|Platelets)', [\d.]+\)\]", printed)
    assert "5 layers are converted" in printed
