"""The examples run unchanged."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
THIN = ("detector_from_classifier.py", "fine_tune_converted.py")  # with networks of few layers


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_example(script, tmp_path):
    runner = [ROOT / "tests" / "thin.py"] if script.name in THIN else []
    command = [sys.executable, *runner, script, "--smoke"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    if script.name in ("detect.py", "edge_device.py"):  # they are short, and the smoke is the run
        said, printed = (
            int(re.search(r"found (\d+) objects", text)[1])
            for text in (script.read_text(), result.stdout)
        )
        assert abs(said - printed) <= 2  # a processor's rounding may move a doubtful one
    else:
        assert "test accuracy" in result.stdout
