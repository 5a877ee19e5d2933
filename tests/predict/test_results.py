"""Results in the formats of other tools, pictures of them, and streams."""

import json
import os
import shutil

import numpy as np
import pytest
from bright import BrightBox
from PIL import Image

import keras_spd
from keras_spd.images.geometry import Letterbox
from keras_spd.predict import Detections, write_annotations


@pytest.fixture
def found():
    return Detections(
        boxes=np.array([[10, 20, 30, 60], [0, 0, 5, 5]], "float32"),
        confidence=np.array([0.9, 0.5], "float32"),
        classes=np.array([1, 0]),
        class_names=("cell", "platelet"),
        letterbox=Letterbox.fit((80, 100), (64, 64)),
        image=np.full((80, 100, 3), 200, "uint8"),
    )


@pytest.fixture
def photos(tmp_path):
    """Two images with a bright rectangle, and one that is broken, in two folders."""
    paths = [tmp_path / "photos" / name for name in ("a.png", "b.png", "more/c.png")]
    for left, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (64, 64))
        image.paste("white", (left, 20, left + 10, 40))
        image.save(path)
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    return tmp_path / "photos"


def test_coco(found):
    assert found.to_coco(7) == [
        {"image_id": 7, "category_id": 2, "bbox": [10, 20, 20, 40], "score": pytest.approx(0.9)},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5},
    ]
    assert [box["category_id"] for box in found.to_coco(7, [40, 50])] == [50, 40]


def test_yolo(found):
    first, second = found.to_yolo().splitlines()
    assert first == "1 0.200000 0.500000 0.200000 0.500000"
    assert second == "0 0.025000 0.031250 0.050000 0.062500"
    assert found.to_yolo(confidence=True).splitlines()[0] == f"{first} 0.900000"
    assert found.select(np.zeros(2, bool)).to_yolo() == ""


def test_pandas(found):
    pytest.importorskip("pandas")
    table = found.to_pandas()
    assert list(table) == ["file", "x1", "y1", "x2", "y2", "confidence", "class", "name"]
    assert list(table["name"]) == ["platelet", "cell"] and list(table["y2"]) == [60, 5]
    assert len(found.select(np.zeros(2, bool)).to_pandas()) == 0


@pytest.mark.slow
def test_supervision(found):
    supervision = pytest.importorskip(
        "supervision", reason="needs `pip install --no-deps supervision`"
    )
    converted = found.to_supervision()
    assert isinstance(converted, supervision.Detections)
    np.testing.assert_array_equal(converted.xyxy, found.boxes)
    assert list(converted["class_name"]) == ["platelet", "cell"]
    assert supervision.LabelAnnotator().annotate(found.image.copy(), converted).shape == (
        80,
        100,
        3,
    )
    assert len(found.select(np.zeros(2, bool)).to_supervision()) == 0


def test_pictures(found, tmp_path):
    before = found.image.copy()
    plain, named = (np.asarray(found.plot(labels=labels)) for labels in (False, True))
    assert (found.image == before).all() and (plain != before).any()
    assert (named != before).sum() > (plain != before).sum()
    found.save(tmp_path / "found.png", labels=False)
    with Image.open(tmp_path / "found.png") as saved:
        assert (np.asarray(saved) == plain).all()
    with pytest.raises(ValueError, match=r"of an image of \(80, 100\) pixels"):
        found.plot(np.zeros((9, 9, 3), "uint8"))
    with pytest.raises(ValueError, match="does not hold its image"):
        found.with_image(None, None).plot()


def test_results_know_their_image(photos):
    predictor = keras_spd.Predictor(BrightBox(), 64)
    pixels = np.zeros((64, 64, 3), "uint8")
    file, array = predictor([photos / "a.png", pixels])
    assert file.path == str(photos / "a.png") and file.plot().size == (64, 64)
    assert array.path is None and array.image is pixels


@pytest.mark.parametrize("tile", [None, 64])
def test_stream(photos, caplog, tile):
    predictor = keras_spd.Predictor(BrightBox(), 64, batch_size=2, tile=tile)
    pixels = np.zeros((64, 64, 3), "uint8")
    results = predictor.stream([photos, str(photos / "*.png"), pixels])
    first = next(results)
    assert predictor.model.batches == [2 if tile is None else 1]  # the rest is not yet read
    everything = [first, *results]
    names = [one.path and one.path.removeprefix(f"{photos}/") for one in everything]
    assert names == ["a.png", "more/c.png", "a.png", None]
    assert [len(one) for one in everything] == [1, 1, 1, 0]
    assert "b.png" in caplog.text
    assert [one.path for one in predictor.stream(photos / "a.png")] == [str(photos / "a.png")]
    with pytest.raises(ValueError, match="no such file"):
        list(predictor.stream("missing/"))


def test_stream_of_a_video(tmp_path):
    pytest.importorskip("av")
    from keras_spd.images.video import VideoWriter

    frames = np.zeros((3, 64, 64, 3), "uint8")
    frames[1, 16:48, 16:48] = 255
    with VideoWriter(tmp_path / "street.mp4") as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index / 10)
    found = list(keras_spd.Predictor(BrightBox(), 64).stream(tmp_path / "street.mp4"))
    assert [len(one) for one in found] == [0, 1, 0]
    assert {one.path for one in found} == {str(tmp_path / "street.mp4")}
    with pytest.raises(ValueError, match="not for videos"):
        write_annotations(found, tmp_path, "coco")


def test_annotations_can_be_trained_on(photos, tmp_path):
    """Files in COCO's and YOLO's formats, read back with the images beside them."""
    found = list(keras_spd.Predictor(BrightBox(), 64).stream(photos))
    write_annotations(found, tmp_path / "coco", "coco")
    content = json.loads((tmp_path / "coco" / "annotations.json").read_text())
    assert all(annotation["segmentation"] == [] for annotation in content["annotations"])
    data = keras_spd.data.load_detection(tmp_path / "coco" / "annotations.json", images=photos)
    assert data.class_names == ("bright",) and data.num_images == 2
    for image, one in zip(data.images, found, strict=True):
        np.testing.assert_allclose(image.boxes, one.boxes)
    write_annotations(found, tmp_path / "yolo", "yolo")
    label = (tmp_path / "yolo" / "labels" / "more" / "c.txt").read_text()
    assert label == found[1].to_yolo()
    shutil.copytree(photos, tmp_path / "yolo" / "images")
    data = keras_spd.data.load_detection(tmp_path / "yolo" / "data.yaml")
    labelled = [image for image in data.images if len(image.boxes)]
    for image, one in zip(labelled, found, strict=True):
        np.testing.assert_allclose(image.boxes, one.boxes, atol=1e-3)


def test_labels_of_images_in_folders_called_images(tmp_path):
    files = [
        tmp_path / "rf" / name for name in ("train/images/a.png", "valid/images/b.png", "c.png")
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (64, 64))
        image.paste("white", (0, 20, 10, 40))
        image.save(file)
    found = list(keras_spd.Predictor(BrightBox(), 64).stream(files))
    write_annotations(found, tmp_path / "out", "yolo")
    shutil.copytree(tmp_path / "rf", tmp_path / "out" / "images", dirs_exist_ok=True)
    data = keras_spd.data.load_detection(tmp_path / "out" / "data.yaml")
    assert [len(image.boxes) for image in data.images] == [1, 1, 1]


def test_labels_of_an_earlier_run_are_named(photos, tmp_path, caplog):
    found = list(keras_spd.Predictor(BrightBox(), 64).stream(photos))
    write_annotations(found, tmp_path / "out", "yolo")
    caplog.clear()
    write_annotations(found[1:], tmp_path / "out", "yolo")  # c.txt, no longer more/c.txt
    assert "label files of an earlier run: 2, such as labels/a.txt" in caplog.text


def test_names_that_are_not_utf8_in_label_studio(photos, tmp_path):
    file = photos / os.fsdecode(b"bad_\xff.png")
    shutil.copy(photos / "a.png", file)
    write_annotations(
        keras_spd.Predictor(BrightBox(), 64)([file]), tmp_path / "out", "label-studio"
    )
    [task] = json.loads((tmp_path / "out" / "label_studio.json").read_text())
    assert task["data"]["image"].endswith("bad_%FF.png")


def test_one_path_is_one_source(photos, tmp_path):
    predictor = keras_spd.Predictor(BrightBox(), 64)
    assert keras_spd.predict.predict_files(predictor, str(photos / "a.png"), tmp_path / "out") == 0
    assert list(keras_spd.predict.load_models("bccd")) == ["bccd"]


def test_files_with_annotations_and_without_pictures(photos, tmp_path):
    predictor = keras_spd.Predictor(BrightBox(), 64)
    sources = keras_spd.predict.find_sources([photos])
    out = tmp_path / "out"
    keras_spd.predict.predict_files(predictor, sources, out, pictures=False, annotations="coco")
    written = {path.name for path in out.iterdir()}
    assert written == {"annotations.json", "detections.csv", "detections.json"}
    content = json.loads((out / "annotations.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "more/c.png"]
    with pytest.raises(ValueError, match="needs a detector, and images as the only"):
        keras_spd.predict.predict_files(predictor, ["street.mp4"], out, annotations="coco")


def test_label_studio(photos, tmp_path):
    found = list(keras_spd.Predictor(BrightBox(), 64).stream(photos))
    write_annotations(found, tmp_path / "tasks", "label-studio")
    tasks = json.loads((tmp_path / "tasks" / "label_studio.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        "/data/local-files/?d=photos/a.png",
        "/data/local-files/?d=photos/more/c.png",
    ]
    [region] = tasks[0]["predictions"][0]["result"]
    assert region["value"] == {
        "x": 0,
        "y": 31.25,
        "width": 15.625,
        "height": 31.25,
        "rotation": 0,
        "rectanglelabels": ["bright"],
    }
    view = (tmp_path / "tasks" / "label_studio.xml").read_text()
    assert '<Label value="bright"/>' in view


def test_annotations_that_cannot_be_written(photos, tmp_path):
    predictor = keras_spd.Predictor(BrightBox(), 64)
    with pytest.raises(ValueError, match="'coco', 'yolo', 'label-studio'. Received: 'voc'"):
        write_annotations([], tmp_path, "voc")
    with pytest.raises(ValueError, match="`detections` is empty"):
        write_annotations([], tmp_path, "coco")
    with pytest.raises(ValueError, match="not for images in memory"):
        write_annotations(predictor(np.zeros((64, 64, 3), "uint8")), tmp_path, "coco")
    Image.new("RGB", (64, 64)).save(photos / "a.jpg")
    with pytest.raises(ValueError, match="Several images are called a"):
        write_annotations(predictor([photos / "a.png", photos / "a.jpg"]), tmp_path, "yolo")


def test_annotations_that_cannot_be_written_are_refused_before_prediction(
    photos, tmp_path, monkeypatch
):
    predictor, out = keras_spd.Predictor(BrightBox(), 64), tmp_path / "out"
    monkeypatch.setattr(predictor, "predict_prepared", lambda _: pytest.fail("predicted"))
    for sources, words in (
        ([photos / "a.png", photos / "a.png"], "Received several times: .*a.png"),
        ([photos / "a.png", photos / "a.jpg"], "Several images are called a"),
    ):
        with pytest.raises(ValueError, match=words):
            keras_spd.predict.predict_files(predictor, sources, out, annotations="yolo")


def test_sahi(photos):
    """SAHI slices a large image, and finds each object once at its place."""
    pytest.importorskip("sahi", reason="needs `pip install --no-deps sahi`")
    from sahi.predict import get_sliced_prediction

    from keras_spd.apps.sahi import SahiDetectionModel

    image = np.zeros((200, 200, 3), "uint8")
    image[150:170, 110:140] = 255
    model = SahiDetectionModel(model=keras_spd.Predictor(BrightBox(), 128))
    result = get_sliced_prediction(
        image,
        model,
        slice_height=128,
        slice_width=128,
        overlap_height_ratio=0.4,
        overlap_width_ratio=0.4,
        perform_standard_pred=False,
        verbose=0,
    )
    [only] = result.object_prediction_list
    assert only.category.name == "bright" and only.score.value == pytest.approx(0.9)
    np.testing.assert_allclose(only.bbox.to_xyxy(), [110, 150, 140, 170], atol=1)
    with pytest.raises(ValueError, match="Predictor"):
        SahiDetectionModel(model="bccd")
