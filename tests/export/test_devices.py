"""Exported files in other programs: LiteRT's CompiledModel, and OpenVINO as the page shows it."""

import importlib.util
import pathlib
import re

import keras
import numpy as np
import pytest
from PIL import Image

from keras_spd.applications import YOLOV5SPD
from keras_spd.export import export_onnx

ROOT = pathlib.Path(__file__).parents[2]
DETECTOR = ROOT / "docs/browser/bccd.tflite"
CELLS = ROOT / "docs/browser/cells.jpg"


@pytest.fixture
def device():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("device", ROOT / "examples/edge_device.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_compiled_model(device):
    image = Image.open(CELLS)
    names, confidence, boxes = device.detect(DETECTOR, image, device.load_compiled)
    expected = device.detect(DETECTOR, image)
    assert names == expected[0] and len(names) > 10
    np.testing.assert_allclose(confidence, expected[1], atol=1e-4)
    np.testing.assert_allclose(boxes, expected[2], atol=0.1)


def test_compiled_model_takes_files_with_a_record(device, tmp_path):
    file = tmp_path / "other.tflite"
    file.write_bytes(b"not ours")
    with pytest.raises(SystemExit, match="files of `keras-spd export`. Received: .*other.tflite"):
        device.load_compiled(file)


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="files are written with TensorFlow"
)
def test_openvino_as_on_the_page(device, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("openvino", reason="needs `pip install openvino`")
    page = (ROOT / "docs/guides/devices.md").read_text()
    [code] = re.findall(r"^```py\n(.*?)^```", page, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    export_onnx(YOLOV5SPD("n", weights="bccd"), "boards.onnx", image_size=(320, 320))
    Image.open(CELLS).save("photo.jpg")
    found = {}
    exec(compile(code, "devices.md", "exec"), found)
    _, confidence, _ = device.detect(tmp_path / "boards.onnx", Image.open("photo.jpg"))
    assert abs(found["count"] - len(confidence)) <= 2  # a doubtful one may be missing
    assert found["found"]["confidence"][0, 0] == pytest.approx(confidence[0], abs=0.02)
    assert "[" in capsys.readouterr().out
