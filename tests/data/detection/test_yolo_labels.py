"""Which label file an image in YOLO's layout gets: its own, never that of the same file name."""

import pytest
from PIL import Image

from keras_spd.data import load_detection
from keras_spd.data.detection import yolo_lines


def write(root, images=(), labels=()):
    """Writes images, and text files with one box each, of the class after each path."""
    for place in images:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 32)).save(root / place)
    for place, label in labels:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(f"{label} 0.5 0.5 0.25 0.5\n")


def classes(source, **options):
    """Returns the classes of each image's boxes, by its path's last two parts."""
    data = load_detection(source, **options)
    return {
        "/".join(image.name.replace("\\", "/").split("/")[-2:]): image.classes.tolist()
        for image in data.images
    }


def write_splits(root):
    write(
        root,
        [f"images/{split}/{name}.jpg" for split in ("train", "val") for name in "xy"],
        [("labels/train/y.txt", 1), ("labels/val/x.txt", 2), ("labels/val/y.txt", 3)],
    )


SPLITS = {"train/x.jpg": [], "train/y.jpg": [1], "val/x.jpg": [2], "val/y.jpg": [3]}


def test_labels_of_another_split_are_not_taken(tmp_path):
    write_splits(tmp_path)
    assert classes(tmp_path) == SPLITS
    train = {name: found for name, found in SPLITS.items() if name.startswith("train")}
    assert classes(tmp_path / "images" / "train") == train
    assert classes(tmp_path / "labels") == SPLITS
    images = tmp_path / "images"
    assert classes(tmp_path / "labels", images=images) == SPLITS
    assert classes(tmp_path / "labels", images=images / "train") == train
    assert classes(tmp_path / "labels" / "train", images=images / "train") == train
    (tmp_path / "data.yaml").write_text("names: [a, b, c, d]\ntrain: images/train\n")
    assert classes(tmp_path / "data.yaml") == train


def test_images_of_another_split_are_no_background(tmp_path, caplog):
    write_splits(tmp_path)
    images = tmp_path / "images"
    found = classes(tmp_path / "labels" / "train", images=images)
    assert found == {"train/x.jpg": [], "train/y.jpg": [1]}
    assert "1 of 4 images in" in caplog.text and "count as images without objects" in caplog.text
    assert "2 of 4 images in" in caplog.text and "are left out" in caplog.text
    caplog.clear()
    assert classes(tmp_path / "labels" / "val", images=images / "val") == {
        "val/x.jpg": [2],
        "val/y.jpg": [3],
    }
    assert not caplog.text


def test_labels_beside_relative_and_with_dots(tmp_path, monkeypatch):
    write(
        tmp_path, ["images/a.b.jpg", "images/a.jpg"], [("labels/a.b.txt", 1), ("images/a.txt", 2)]
    )
    expected = {"images/a.b.jpg": [1], "images/a.jpg": [2]}
    assert classes(tmp_path) == expected
    monkeypatch.chdir(tmp_path)
    assert classes("images") == expected
    monkeypatch.chdir(tmp_path / "images")
    assert classes(".") == {"a.b.jpg": [1], "a.jpg": [2]}


def test_the_last_folder_named_images_counts(tmp_path):
    write(
        tmp_path, ["images/images/x.jpg"], [("images/labels/x.txt", 1), ("labels/images/x.txt", 2)]
    )
    assert classes(tmp_path) == {"images/x.jpg": [1]}


def test_given_labels_come_before_those_beside_the_images(tmp_path):
    write(tmp_path, ["images/x.jpg"], [("labels/x.txt", 1), ("again/x.txt", 2)])
    assert classes(tmp_path / "again", images=tmp_path / "images") == {"images/x.jpg": [2]}


def test_names_alone_decide_only_where_they_are_unique(tmp_path):
    write(tmp_path, ["pics/x.jpg", "pics/y.jpg"], [("text/x.txt", 1), ("text/deep/y.txt", 2)])
    assert classes(tmp_path) == {"pics/x.jpg": [1], "pics/y.jpg": [2]}
    write(tmp_path, [], [("more/x.txt", 3)])
    with pytest.raises(ValueError, match="None of the 2 images"):
        load_detection(tmp_path)


def message(source, **options):
    with pytest.raises(ValueError) as error:
        load_detection(source, on_problem="skip", **options)
    return str(error.value)


def test_no_label_at_all_says_what_was_looked_for(tmp_path):
    write(tmp_path, ["images/train/x.jpg", "images/val/y.jpg"], [("lables/train/x.txt", 0)])
    (tmp_path / "data.yaml").write_text("names: [a]\ntrain: images/train\n")
    expected = str(tmp_path / "labels" / "train" / "x.txt")
    for source in (tmp_path, tmp_path / "data.yaml", tmp_path / "images" / "train"):
        said = message(source)
        assert expected in said and f"Is {tmp_path / 'lables'} misspelt?" in said
        assert "`labels/` beside `images/`" in said and "classifier" not in said
    said = message(tmp_path / "lables", images=tmp_path / "images" / "val")
    assert str(tmp_path / "lables" / "y.txt") in said and "None of the 1 image " in said
    (tmp_path / "lables").rename(tmp_path / "labels")
    assert classes(tmp_path) == {"train/x.jpg": [0], "val/y.jpg": []}


def test_a_folder_for_each_class_is_data_for_a_classifier(tmp_path):
    write(tmp_path, ["leaves/train/oak/x.jpg", "leaves/train/ash/x.jpg", "leaves/test/oak/y.jpg"])
    for source in ("leaves", "leaves/train"):
        assert "(ash, oak) is data for a classifier" in message(tmp_path / source)
    write(tmp_path, ["splits/train/x.jpg", "splits/val/x.jpg"])
    assert "classifier" not in message(tmp_path / "splits")


@pytest.mark.parametrize("track", ["1", "7"])
def test_boxes_with_a_track_are_no_polygons(track):
    with pytest.raises(ValueError, match="remove the number of the track"):
        yolo_lines._parse(f"0 0.5 0.5 0.2 0.2 0.9 {track}", 1, 0)
    box = yolo_lines._parse("0 0.5 0.5 0.2 0.2 0.9 1.0", 1, 0)
    assert box == (0, pytest.approx((0.2, 0.2, 0.9, 1.0)))


def test_keypoints_with_a_confidence():
    line = "0 0.5 0.5 0.2 0.4 " + "0.9 0.9 1 " * 3 + "0.75"
    assert yolo_lines._parse(line, 1, 9) == (0, pytest.approx((0.4, 0.3, 0.6, 0.7)))
