"""The examples and the README's Python run as they stand."""

import pathlib
import re
import subprocess
import sys

import pytest

from keras_spd.demo import run_demo

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_example(script):
    result = subprocess.run(
        [sys.executable, script, "--smoke"], capture_output=True, text=True, check=True
    )
    assert "test accuracy" in result.stdout


@pytest.mark.slow
def test_readme(tmp_path, monkeypatch, capsys):
    """Its blocks, one after the other, in a folder where `keras-spd demo` has run."""
    monkeypatch.chdir(tmp_path)
    run_demo("demo", epochs=1, say=lambda line: None)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert re.search(r"\[\[\(\d, '(RBC|WBC|Platelets)', [\d.]+\)\]", capsys.readouterr().out)
