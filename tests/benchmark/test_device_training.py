"""benchmarks/device_training.py, so that it is ready where there is a GPU."""

import pathlib
import re
import sys
import types

import pytest

PATH = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_a_row_for_each_network_and_batch_size(thin_networks, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(PATH))
    import device_training

    beside = types.SimpleNamespace(make=lambda network, side, batch_size: lambda: None)
    monkeypatch.setitem(sys.modules, "other_program", beside)
    monkeypatch.setattr(device_training, "WARM_UP", 1)
    options = ["--precision", "float32", "--steps", "1", "--beside", "other_program:make"]
    networks = ["resnet18_spd:16", "yolov5_spd_n:64"]
    device_training.main(["--networks", *networks, "--batch-sizes", "2", *options])
    rows = capsys.readouterr().out.splitlines()[3:]
    for row, network in zip(rows, networks, strict=True):
        assert re.fullmatch(rf"\| {network} \| 2 \| [\d.]+ \| [\d.]+ GiB \| \d+ \|", row)
