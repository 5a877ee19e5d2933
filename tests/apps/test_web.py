"""The web page: what its functions return, and the page itself through Gradio's client."""

import dataclasses
import urllib.request

import numpy as np
import pytest
from PIL import Image

from keras_spd import Predictor, applications, predict
from keras_spd.apps import web
from keras_spd.images import draw_detections


@pytest.fixture
def page(tmp_path):
    """The page of a detector and two classifiers, served; and its address."""
    pytest.importorskip("gradio", reason="the web page needs Gradio")
    paths: list = ["bccd"]
    for run in ("spd", "strided"):
        model = applications.ResNet18SPD(
            classes=3, input_shape=(32, 32, 3), downsampling=run, stem_stride=2
        )
        info = {"statistics": applications.STATISTICS["imagenet"], "class_names": ("a", "b", "c")}
        model.info = dataclasses.replace(model.info, **info)
        (tmp_path / run).mkdir()
        model.save(tmp_path / run / "model.keras")
        paths.append(tmp_path / run / "model.keras")
    page = web.build_page(paths)
    _, address, _ = page.launch(
        server_name="127.0.0.1", quiet=True, prevent_thread_lock=True, **web._looks()
    )
    yield address, paths
    page.close()


@pytest.mark.slow
def test_page_through_its_interface(page, tmp_path):
    from gradio_client import Client, handle_file

    address, paths = page
    file = tmp_path / "sheet.png"
    Image.fromarray(web.example_sheet()).save(file)
    client = Client(address, verbose=False)

    picture, line = client.predict(handle_file(file), 0.5, api_name="/find_objects")
    [found] = Predictor("bccd", confidence_threshold=0.5)([file])
    assert line.startswith(f"{len(found)} objects: ") and len(found) > 20
    shown = np.asarray(Image.open(picture).convert("RGB"))
    assert shown.shape == (384, 512, 3)  # twice as large
    doubled = dataclasses.replace(found, boxes=found.boxes * 2)
    expected = web.example_sheet().repeat(2, axis=0).repeat(2, axis=1)
    expected = np.asarray(draw_detections(expected, doubled))
    assert (shown != expected).mean() < 0.01

    answers = client.predict(handle_file(file), api_name="/name_classes")
    for answer, path in zip(answers, paths[1:], strict=True):
        [ranked] = predict.Classifier(path)([file])
        assert answer["label"] == ranked.name(ranked.classes[0])
        for entry, expected in zip(answer["confidences"], ranked.to_json(), strict=True):
            assert entry["label"] == expected["name"]
            assert entry["confidence"] == pytest.approx(expected["confidence"], abs=1e-4)

    with urllib.request.urlopen(address) as response:
        content = response.read().decode()
    assert "fonts.googleapis.com" not in content and "Find objects" in content


def test_no_image_and_no_objects():
    predictors = {"bccd": Predictor("bccd", confidence_threshold=0.05, batch_size=1)}
    assert web.find_objects(predictors, None, 0.25) == [None, ""]
    picture, line = web.find_objects(predictors, np.zeros((70, 50, 3), "uint8"), 0.25)
    assert line == "0 objects" and picture.shape == (630, 450, 3) and not picture.any()
    assert web.name_classes({"cifar10": None}, None) == [None]


def test_default_models(tmp_path):
    assert web.default_models(tmp_path) == ["cifar10", "bccd"]
    (tmp_path / "model.keras").touch()
    assert web.default_models(tmp_path)[2:] == [tmp_path / "model.keras"]


def test_errors(monkeypatch):
    pytest.importorskip("gradio", reason="the web page needs Gradio")
    with pytest.raises(ValueError, match="There is no model to show"):
        web.build_page([])
    with pytest.raises(ValueError, match=r"There is no file model.pt"):
        web.build_page(["model.pt"])
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(ImportError, match=r'pip install "keras_spd\[web\]"'):
        web.build_page(["bccd"])
