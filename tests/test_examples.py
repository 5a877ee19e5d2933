"""The examples run as they stand."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_example(script):
    result = subprocess.run(
        [sys.executable, script, "--smoke"], capture_output=True, text=True, check=True
    )
    assert "test accuracy" in result.stdout
