"""Predicting files: which are found, what is written, and what remains after an error."""

import csv
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from bright import BrightBox
from PIL import Image
from thin import make_thin
from tiny import tiny_classifier

import keras_spd
from keras_spd import data
from keras_spd.applications import ImageModel, ModelInfo
from keras_spd.images.video import VideoWriter, read_video
from keras_spd.predict import Classifier, find_sources, load_predictor, name_pictures, predict_files
from keras_spd.predict.files import trust_image_sizes
from keras_spd.predict.score_files import score_classifier


def draw(path, box=(10, 20, 30, 50), size=(100, 80)):
    image = Image.new("RGB", size)
    image.paste("white", box)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def test_sources(tmp_path):
    files = [draw(tmp_path / name) for name in ("b.png", "a.png", "deep/er/c.JPG")]
    (tmp_path / "notes.txt").touch()
    (tmp_path / "film.mp4").touch()
    names = ["a.png", "b.png", "deep/er/c.JPG", "film.mp4"]
    in_folder = [str(path.relative_to(tmp_path)) for path in find_sources([tmp_path])]
    assert in_folder == names
    assert find_sources([files[0], tmp_path / "*.png"]) == [files[0], files[1], files[0]]
    assert find_sources([f"{tmp_path}/**/*.[jJ]*"]) == [files[2]]
    assert find_sources([f"{tmp_path}/**"]) == find_sources([tmp_path])
    assert find_sources(str(tmp_path)) == find_sources([tmp_path])
    odd = draw(tmp_path / "odd[1].png")  # a name that looks like a pattern
    assert find_sources([odd]) == [odd]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.png", "missing.png: there is no such file or folder"),
        ("*.bmp", r"no image or video that matches .*\*.bmp"),
        ("empty", "no image or video in the folder .*empty"),
    ],
)
def test_missing_sources(tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(ValueError, match=message):
        find_sources([draw(tmp_path / "a.png"), tmp_path / source])


@pytest.mark.parametrize("tile", [None, 64])
def test_one_broken_image_loses_nothing(tmp_path, caplog, tile):
    files = [draw(tmp_path / f"{index}.png", (index, 20, index + 10, 40)) for index in range(5)]
    files[3].write_bytes(files[3].read_bytes()[:90])
    predictor = keras_spd.Predictor(BrightBox(), 64, batch_size=2, tile=tile)
    said: list[str] = []
    problems = predict_files(predictor, files, tmp_path / "out", say=said.append)
    assert problems == 1 and "3.png: " in caplog.text
    assert said[0] == f"{files[0]}: 1 object: 1 bright" and len(said) == 4
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    read = [0, 1, 2, 4]
    assert [entry["image"] for entry in entries] == [str(files[index]) for index in read]
    with open(tmp_path / "out" / "detections.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["file"] for row in rows] == [str(files[index]) for index in read]
    for index, entry, row in zip(read, entries, rows, strict=True):
        [found] = entry["detections"]
        assert found["box"] == pytest.approx([index, 20, index + 10, 40], abs=1.6)
        assert [float(row[side]) for side in ("x1", "y1", "x2", "y2")] == found["box"]
        assert row["name"] == found["name"] == "bright" and row["frame"] == ""
        with Image.open(tmp_path / "out" / entry["picture"]) as picture:
            assert picture.size == (100, 80) and len(picture.getcolors()) > 2


def test_what_was_found_survives_an_interruption(tmp_path):
    files = [draw(tmp_path / f"{index}.png") for index in range(6)]

    class Interrupted(BrightBox):
        def predict_on_batch(self, images):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().predict_on_batch(images)

    predictor = keras_spd.Predictor(Interrupted(), 64, batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        predict_files(predictor, files, tmp_path / "out")
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 4
    assert len((tmp_path / "out" / "detections.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.slow
def test_classes_of_images(tmp_path):
    files = [draw(tmp_path / f"{index}.png", size=(40 + index, 32)) for index in range(3)]
    classifier = load_predictor("cifar10", batch_size=2)
    assert isinstance(classifier, Classifier)
    assert predict_files(classifier, files, tmp_path / "out") == 0
    entries = json.loads((tmp_path / "out" / "classes.json").read_text())
    for file, entry in zip(files, entries, strict=True):
        # As training would have resized and normalised it.
        with Image.open(file) as image:
            pixels = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), "float32")
        model, statistics = classifier.model, classifier.model.info.statistics
        row = model.predict(((pixels / 255 - statistics.mean) / statistics.std)[None], verbose=0)[0]
        best = sorted(range(10), key=lambda label: -row[label])[:5]
        assert [found["class"] for found in entry["classes"]] == best
        received = [found["confidence"] for found in entry["classes"]]
        assert received == pytest.approx(row[best], abs=2e-5)
        assert entry["classes"][0]["name"] == model.info.class_names[best[0]]
        with Image.open(tmp_path / "out" / entry["picture"]) as picture:
            assert picture.height > 6 * 32  # enlarged, with a caption below
    lines = (tmp_path / "out" / "classes.csv").read_text().splitlines()
    assert lines[0] == "file,frame,time,confidence,class,name" and len(lines) == 1 + 3 * 5


def test_classes_of_a_video(tmp_path):
    """A network that tells dark from bright frames; a video of three of each."""
    pytest.importorskip("av")
    inputs = keras.Input((16, 16, 3))
    layer = keras.layers.Dense(2, activation="softmax")
    outputs = layer(keras.layers.GlobalAveragePooling2D()(inputs))
    layer.set_weights([np.full((3, 2), [-9.0, 9.0]), np.array([13.0, -13.0])])
    names = ("dark", "bright " + 200 * "x")  # a caption that is wider than the frame
    info = ModelInfo(input_range=(0, 1), class_names=names)
    classifier = Classifier(ImageModel(inputs, outputs, info=info), batch_size=4)
    with VideoWriter(tmp_path / "street.mp4") as writer:
        for index in range(6):
            writer.write(np.full((64, 64, 3), 255 * (index >= 3), "uint8"), index / 10)
    assert predict_files(classifier, [tmp_path / "street.mp4"], tmp_path / "out") == 0
    entries = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(6))
    times = [entry["time"] for entry in entries]
    assert times == pytest.approx([index / 10 for index in range(6)], abs=0.01)
    found = [entry["classes"][0]["name"] for entry in entries]
    assert found == [names[0]] * 3 + [names[1]] * 3
    pictures = [frame.pixels for frame in read_video(tmp_path / "out" / "00000_street.mp4")]
    assert len(pictures) == 6 and pictures[0].shape[0] > 64  # with a caption


def test_a_classifier_with_one_output_is_refused():
    with pytest.raises(ValueError, match="tiny returns one for two classes.*1 - p and p"):
        Classifier(tiny_classifier(classes=1, outputs="probabilities", input_range=(0, 1)))


def test_a_classifier_with_other_classes_is_not_scored(tmp_path):
    classifier = Classifier(tiny_classifier(input_range=(0, 255)))  # three classes without names
    assert classifier.probabilities([]).shape == (0, 3)
    images = data.from_arrays(np.zeros((2, 16, 16, 3), "uint8"), [0, 1], ("a", "b"))
    with pytest.raises(ValueError, match="The model has 3 classes, the data 2: a, b"):
        score_classifier(classifier, images, tmp_path)


@pytest.mark.slow
def test_options_and_models_that_do_not_fit(monkeypatch):
    with pytest.raises(ValueError, match="cifar10 is not a detector and does not take: tile"):
        load_predictor("cifar10", tile=320)
    make_thin(monkeypatch)
    fixed = keras_spd.applications.ResNet18SPD(weights=None, classes=2, input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match=r"takes images of \(32, 32\) only"):
        Classifier(fixed, 64)
    for wrong in ((16, 16, 3), 0):
        with pytest.raises(ValueError, match=r"one or two positive integers, \(height, width\)"):
            Classifier(tiny_classifier(input_range=(0, 255)), wrong)
    with pytest.raises(ValueError, match="A classifier takes RGB images and returns a row"):
        Classifier(keras_spd.applications.ResNetSPDBackbone(18))
    model = keras_spd.applications.ResNet18SPD(weights=None, classes=2, input_shape=(None, None, 3))
    with pytest.raises(ValueError, match="pass `image_size`"):
        Classifier(model)
    model.info = dataclasses.replace(model.info, statistics="cifar10")
    [found] = Classifier(model, (32, 48))([np.zeros((20, 20, 3), "uint8")])
    assert len(found) == 2 and found.name(1) == "1"


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(ValueError, match="A file, folder or pattern is empty"):
        find_sources([""])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_a_name_that_is_not_utf_8_loses_nothing(tmp_path):
    odd = draw(tmp_path / os.fsdecode(b"caf\xe9.png"))
    files = [draw(tmp_path / "a.png"), odd, draw(tmp_path / "z.png")]
    assert predict_files(keras_spd.Predictor(BrightBox(), 64), files, tmp_path / "out") == 0
    entries = json.loads((tmp_path / "out" / "detections.json").read_text(encoding="utf-8"))
    assert [entry["image"] for entry in entries] == [str(file) for file in files]
    assert "caf\\udce9.png" in (tmp_path / "out" / "detections.csv").read_text(encoding="utf-8")


def test_no_picture_is_written_over_another(tmp_path):
    files = [draw(tmp_path / folder / "same.png") for folder in ("a", "b")]
    predict_files(keras_spd.Predictor(BrightBox(), 64), files, tmp_path / "out")
    pictures = [path.name for path in pathlib.Path(tmp_path / "out").glob("*.png")]
    assert sorted(pictures) == ["00000_a_same.png", "00001_b_same.png"]
    assert name_pictures(files[:1]) == ["00000_same"]
    assert name_pictures(["same.png", "b/same.png"]) == ["00000_same", "00001_b_same"]


def test_the_output_of_an_earlier_run_is_not_predicted(tmp_path, caplog):
    draw(tmp_path / "a.png")
    predictor, output = keras_spd.Predictor(BrightBox(), 64), tmp_path / "out"
    predict_files(predictor, find_sources([tmp_path], output), output)
    assert not caplog.text
    for source in (tmp_path, f"{tmp_path}/**/*.png"):
        assert find_sources([source], output) == [tmp_path / "a.png"]
    assert "are left out: 1, such as 00000_a.png" in caplog.text
    assert find_sources([output], output) == [output / "00000_a.png"]  # it is named


def test_pictures_of_jpeg_files_are_jpeg_files(tmp_path):
    files = [draw(tmp_path / name) for name in ("a.jpg", "b.JPEG", "c.bmp")]
    predict_files(keras_spd.Predictor(BrightBox(), 64), files, tmp_path / "out")
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    names = [entry["picture"] for entry in entries]
    assert names == ["00000_a.jpg", "00001_b.jpg", "00002_c.png"]
    first, _, last = (Image.open(tmp_path / "out" / name) for name in names)
    assert (first.format, last.format) == ("JPEG", "PNG")
    difference = np.asarray(first, int) - np.asarray(last, int)
    assert abs(difference).mean() < 3  # the lines of the boxes keep their colours


def test_pictures_of_an_earlier_run_give_a_warning(tmp_path, caplog):
    files = [draw(tmp_path / f"{index}.png") for index in range(3)]
    predictor, output = keras_spd.Predictor(BrightBox(), 64), tmp_path / "out"
    predict_files(predictor, files, output)
    (output / "notes.png").touch()
    predict_files(predictor, files, output)
    assert not caplog.text
    predict_files(predictor, files[:1], output)
    assert (
        f"{output} holds pictures or videos of an earlier run: 2, such as 00001_1.png"
        in caplog.text
    )
    assert len(list(output.glob("*.png"))) == 4
    assert len(json.loads((output / "detections.json").read_text())) == 1


MEMORY = """
import pathlib, re, sys
from PIL import Image
import keras_spd
from bright import BrightBox

def memory(name):
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(name + r":\\s+(\\d+) kB", status)[1]) / 1024

predictor = keras_spd.Predictor(BrightBox(), tile=320, overlap=0.2, batch_size=4)
for side in (700, 5000):
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    file = pathlib.Path(sys.argv[1], f"{side}.png")
    keras_spd.predict.predict_files(predictor, [file], sys.argv[1])
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux' /proc")
def test_memory_of_a_large_image_in_tiles(tmp_path):
    """One copy of the image, 4 bytes per pixel, and a bound: reading, tiles, drawing, writing."""
    for side in (700, 5000):
        draw(tmp_path / f"{side}.png", size=(side, side))
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stderr
    image = 4 * 5000**2 / 2**20
    assert image * 0.9 < float(result.stdout) < image + 30, result.stdout


@pytest.mark.slow
def test_probabilities_of_mirror_images_are_averaged_in(tmp_path):
    """The model is surer of light at the left, and this image has it at the right."""
    inputs = keras.Input((4, 4, 3))
    left, right = (keras.ops.mean(x, axis=(1, 2, 3)) for x in (inputs[:, :, :2], inputs[:, :, 2:]))
    outputs = keras.layers.Softmax()(keras.ops.stack([left, 0.5 * right], axis=-1))
    model = ImageModel(inputs, outputs, info=ModelInfo(input_range=(0, 1)))
    pixels = np.zeros((1, 4, 4, 3), "uint8")
    pixels[:, :, 2:] = 255
    images = data.from_arrays(pixels, [0], ("left", "right"))
    scores = score_classifier(Classifier(model), images, tmp_path, mirror=True)
    assert (scores.accuracy, scores.mirror_accuracy) == (0, 1)
    assert json.loads((tmp_path / "scores.json").read_text())["mirror_accuracy"] == 1


def test_large_images_are_read_without_a_warning(tmp_path, monkeypatch):
    file = draw(tmp_path / "a.png", size=(40, 25))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with warnings.catch_warnings():
        trust_image_sizes(any_size=False)
        with Image.open(file) as image:
            image.load()
        assert Image.MAX_IMAGE_PIXELS == 700  # above twice as many is still refused
        trust_image_sizes(any_size=True)
        assert Image.MAX_IMAGE_PIXELS is None
