"""Images are read ahead in threads: in order, with bounded memory, and never from a live source."""

import json
import logging

import numpy as np
import pytest
from bright import BrightBox
from PIL import Image

from keras_spd import data, predict
from keras_spd.images.read import ImageError
from keras_spd.predict.evaluation import batch_shapes
from keras_spd.predict.score_files import score_detector


def bright(left, height=40, width=60):
    pixels = np.zeros((height, width, 3), "uint8")
    pixels[10:20, left : left + 5] = 255
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Images with the box further to the right in each, a broken one among them."""
    for number in range(11):
        Image.fromarray(bright(4 * number)).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "05.png").write_bytes(b"broken")
    return tmp_path


def test_files_are_in_order_and_broken_ones_skipped(folder, caplog):
    predictor = predict.Predictor(BrightBox(), 64, batch_size=2)
    found = list(predictor.stream(folder))
    assert [int(one.path[-6:-4]) for one in found] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    lefts = [one.boxes[0, 0] for one in found]
    np.testing.assert_allclose(lefts, [4 * n for n in range(11) if n != 5], atol=1)
    assert predictor.model.batches == [2] * 5 and "05.png" in caplog.text

    said = []
    files = predict.find_sources([folder])
    assert predict.predict_files(predictor, files, folder / "out", say=said.append) == 1
    assert [int(line.split(".png")[0][-2:]) for line in said] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    entries = json.loads((folder / "out" / "detections.json").read_text())
    assert len(entries) == 10 and all((folder / "out" / one["picture"]).exists() for one in entries)


def test_an_error_comes_after_the_results_before_it(folder):
    predictor, found = predict.Predictor(BrightBox(), 64, batch_size=4), []
    with pytest.raises(ValueError, match="missing.png: there is no such file"):
        for one in predictor.stream([folder / "00.png", folder / "01.png", "missing.png"]):
            found.append(one)
    assert len(found) == 2


def test_at_most_two_batches_are_read_ahead(folder, monkeypatch):
    read, predictor = [], predict.Predictor(BrightBox(), 64, batch_size=2)
    prepare = predictor.prepare
    monkeypatch.setattr(predictor, "prepare", lambda image: read.append(image) or prepare(image))
    for count, _ in enumerate(predictor.stream(folder), 1):
        assert len(read) <= count + 1 + 2 * 2 + 1  # one more was broken
    assert count == 10 and len(read) == 11


def test_a_live_source_is_not_read_ahead():
    taken = []

    def camera():
        for number in range(6):
            taken.append(number)
            yield bright(5)

    predictor = predict.Predictor(BrightBox(), 64, batch_size=1)
    for count, _ in enumerate(predictor.stream(camera()), 1):
        assert len(taken) == count
    assert count == 6


def test_a_broken_image_passed_to_the_predictor_is_an_error(folder):
    predictor = predict.Predictor(BrightBox(), 64, batch_size=2)
    with pytest.raises(ImageError, match=r"05\.png"):
        predictor(sorted(folder.glob("*.png")))


@pytest.mark.slow
def test_shapes_of_batches_are_counted(tmp_path, caplog):
    content: dict = {"categories": [{"id": 1, "name": "bright"}], "images": [], "annotations": []}
    for number, (height, width) in enumerate([(40, 80), (40, 80), (80, 40), (60, 60), (80, 40)]):
        Image.fromarray(bright(5, height, width)).save(tmp_path / f"{number}.png")
        record = {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
        content["images"].append(record)
        box = {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [5, 10, 5, 10]}
        content["annotations"].append({**box, "area": 50, "iscrowd": 0})
    (tmp_path / "set.json").write_text(json.dumps(content))
    things, model = data.load_detection(tmp_path / "set.json"), BrightBox()
    assert batch_shapes(model, things, 64, batch_size=2) == [(32, 64), (64, 64), (64, 32)]
    assert batch_shapes(model, things, tile=96) == [(96, 96)]
    with caplog.at_level(logging.INFO):
        scores = score_detector(model, things, tmp_path, image_size=64, batch_size=2)
    assert "5 images, in batches of 3 shapes: 32x64, 64x64, 64x32" in caplog.text
    assert scores.metrics["AP50"] == pytest.approx(1.0)
