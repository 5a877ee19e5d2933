"""COCO, YOLO, VOC and TFDS data give the same boxes; problems are reported."""

import dataclasses
import json
import os
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from keras_spd.data import load_classification, load_detection
from keras_spd.metrics import evaluate_coco
from keras_spd.predict import Detections

# Two images, height and width differ; xyxy boxes in pixels.
SIZES = {"a.png": (40, 60), "b ü.png": (30, 20)}
BOXES = {
    "a.png": [("cat", (10, 5, 30, 25)), ("dog", (0, 0, 60, 40))],
    "b ü.png": [("dog", (4, 6, 14, 26))],
}
NAMES = ("cat", "dog")


def write_images(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (height, width) in SIZES.items():
        Image.fromarray(np.full((height, width, 3), 90, "uint8")).save(folder / name)


def coco_content():
    images, annotations = [], []
    for image_id, (name, (height, width)) in enumerate(SIZES.items(), start=7):
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for label, (x1, y1, x2, y2) in BOXES[name]:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image_id,
                    "category_id": {"cat": 3, "dog": 9}[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder, content=None):
    write_images(folder / "images")
    (folder / "labels.json").write_text(json.dumps(content or coco_content()))
    return str(folder / "labels.json")


def write_yolo(folder):
    write_images(folder / "images" / "train")
    (folder / "labels" / "train").mkdir(parents=True)
    for name, (height, width) in SIZES.items():
        lines = []
        for label, (x1, y1, x2, y2) in BOXES[name]:
            numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
            numbers += ((x2 - x1) / width, (y2 - y1) / height)
            lines.append(" ".join(map(str, (NAMES.index(label), *numbers))))
        file = folder / "labels" / "train" / name.replace(".png", ".txt")
        file.write_text("\n".join(lines))
    (folder / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/train\n")
    return str(folder / "data.yaml")


def write_voc(folder):
    write_images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name in SIZES:
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2) in BOXES[name]
        )
        file = folder / "Annotations" / name.replace(".png", ".xml")
        file.write_text(f"<annotation><filename>{name}</filename>{objects}</annotation>")
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb ü\n")
    return str(folder) + ":train"


def check(data):
    assert data.class_names == NAMES and not data.problems
    assert [image.size_hw for image in data.images] == list(SIZES.values())
    for image, (name, boxes) in zip(data.images, BOXES.items(), strict=True):
        assert name.split(".")[0] in image.name
        assert [NAMES[label] for label in image.classes] == [label for label, _ in boxes]
        np.testing.assert_allclose(image.boxes, [box for _, box in boxes], atol=1e-3)
        assert image.read().shape == (*image.size_hw, 3)


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_formats_agree(write, tmp_path):
    check(load_detection(write(tmp_path)))


def test_files_that_macos_adds_to_voc(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "Annotations" / "._a.xml").write_bytes(b"macOS")
    check(load_detection(tmp_path))


def test_a_yaml_names_its_images(tmp_path):
    file = write_yolo(tmp_path)
    with pytest.raises(ValueError, match="defines where its images are.*Omit `images`"):
        load_detection(file, images=tmp_path / "images")
    (tmp_path / "empty").mkdir()
    pathlib.Path(file).write_text("names: [cat, dog]\ntrain: empty\nval: empty\n")
    with pytest.raises(ValueError, match="no images in .*data.yaml. Correct `path` and `val` in"):
        load_detection(f"{file}:val")


def test_yolo_without_yaml(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    data = load_detection(tmp_path)
    assert data.class_names == ("0", "1") and [len(i.boxes) for i in data.images] == [2, 1]
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    check(load_detection(tmp_path / "images", images=None))


def object_features(tfds):
    return tfds.features.Sequence(
        {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(names=NAMES),
            "is_crowd": np.bool_,
        }
    )


def test_tfds(tmp_path):
    import tensorflow_datasets as tfds

    class Boxes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="png"),
                    "image/filename": tfds.features.Text(),
                    "objects": object_features(tfds),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            write_images(tmp_path / "files")
            for name, (height, width) in SIZES.items():
                objects = [
                    {
                        "bbox": tfds.features.BBox(
                            y1 / height, x1 / width, y2 / height, x2 / width
                        ),
                        "label": label,
                        "is_crowd": False,
                    }
                    for label, (x1, y1, x2, y2) in BOXES[name]
                ]
                yield (
                    name,
                    {
                        "image": str(tmp_path / "files" / name),
                        "image/filename": name,
                        "objects": objects,
                    },
                )

    Boxes(data_dir=tmp_path / "tfds").download_and_prepare()
    data = load_detection("train", name="boxes", data_dir=str(tmp_path / "tfds"))
    order = [image.name for image in data.images]
    images = sorted(data.images, key=lambda image: list(SIZES).index(image.name))
    assert sorted(order) == sorted(SIZES) and data.class_names == NAMES
    for image in images:
        assert image.read().shape == (*SIZES[image.name], 3)
        np.testing.assert_allclose(image.boxes, [box for _, box in BOXES[image.name]], atol=1e-3)
    for split, expected in [
        ("train[:1]", [0]),
        ("train[50%:]", [1]),
        ("train[1:]+train[:1]", [1, 0]),
    ]:
        part = load_detection(split, name="boxes", data_dir=str(tmp_path / "tfds"))
        assert [image.name for image in part.images] == [order[i] for i in expected]
        for image, i in zip(part.images, expected, strict=True):
            np.testing.assert_array_equal(image.read(), data.images[i].read())
            np.testing.assert_array_equal(image.boxes, data.images[i].boxes)
    with pytest.raises(ValueError, match="no split 'test'"):
        load_detection("test", name="boxes", data_dir=str(tmp_path / "tfds"))


def test_coco_ids_are_kept(tmp_path):
    data = load_detection(write_coco(tmp_path))
    assert data.category_ids == (3, 9) and [image.image_id for image in data.images] == [7, 8]
    assert data.to_coco() == coco_content()


def test_annotations_made_from_other_formats_are_cocos(tmp_path):
    content = load_detection(write_yolo(tmp_path)).to_coco()
    boxes = [annotation["bbox"] for annotation in content["annotations"]]
    np.testing.assert_allclose(boxes, [[10, 5, 20, 20], [0, 0, 60, 40], [4, 6, 10, 20]], atol=1e-3)
    assert [category["name"] for category in content["categories"]] == ["cat", "dog"]


def test_changed_boxes_are_annotations(tmp_path):
    """Boxes, classes and crowd regions that were changed after they were read from COCO."""
    data = load_detection(write_coco(tmp_path))
    before = data.to_coco()["annotations"]
    image = data.images[0]
    for changed in (
        {"boxes": image.boxes + 1},
        {"classes": image.classes[::-1]},
        {"crowd": ~image.crowd},
        {name: getattr(image, name)[:1] for name in ("boxes", "classes", "crowd")},
    ):
        images = (dataclasses.replace(image, **changed), *data.images[1:])
        after = dataclasses.replace(data, images=images).to_coco()["annotations"]
        assert len(after) == sum(len(image.boxes) for image in images)
        assert [(one["bbox"], one["category_id"], one["iscrowd"]) for one in after] != [
            (one["bbox"], one["category_id"], one["iscrowd"]) for one in before
        ]


def test_coco_with_a_part_of_its_images(tmp_path):
    content = coco_content()
    rest = content["images"]
    missing = [{"id": 100 + n, "file_name": f"{n}.png", "height": 9, "width": 9} for n in range(12)]
    source = write_coco(tmp_path, content | {"images": missing + rest})
    data = load_detection(source, on_problem="skip")
    assert data.num_images == 2 and len(data.problems) == 12


def test_voc_with_other_case_of_suffixes(tmp_path):
    check(load_detection(write_voc(tmp_path)))
    for file in [path for path in tmp_path.rglob("*.png")]:
        file.rename(file.with_suffix(".PNG"))
    assert load_detection(tmp_path).num_images == 2


def test_classes_of_named_data_cannot_be_chosen():
    names = load_classification("train", name="blood_cells").class_names
    assert load_classification("train", name="blood_cells", class_names=names).class_names == names
    with pytest.raises(ValueError, match="Only the classes of a folder can be chosen"):
        load_classification("train", name="blood_cells", class_names=names[::-1])


def test_classes_are_matched_by_name(tmp_path):
    source = write_coco(tmp_path)
    data = load_detection(source, class_names=("dog", "bird", "cat"))
    assert [image.classes.tolist() for image in data.images] == [[2, 0], [0]]
    with pytest.raises(ValueError, match="classes dog, which are not among cat"):
        load_detection(source, class_names=("cat",))
    voc = tmp_path / "voc"
    voc.mkdir()
    with pytest.raises(ValueError, match="the unknown class 'dog'"):
        load_detection(write_voc(voc), class_names=("cat",))


@pytest.mark.parametrize("class_names", [("dog", "cat"), ("dog", "bird", "cat")])
def test_scores_of_classes_in_another_order(class_names, tmp_path):
    """Perfect detections, numbered as the model's classes, have perfect scores."""
    data = load_detection(write_coco(tmp_path), class_names=class_names)
    results = []
    for image in data.images:
        found = Detections(
            image.boxes, np.ones(len(image.boxes), "float32"), image.classes, class_names, None
        )
        results += found.to_coco(image.image_id, data.category_ids)
    scores = evaluate_coco(data.to_coco(), results)
    assert scores.metrics["AP"] == pytest.approx(1)
    names = {category["id"]: category["name"] for category in data.to_coco()["categories"]}
    assert [names[number] for number in data.category_ids] == list(class_names)


def test_tfds_in_several_files(tmp_path):
    """Images and boxes are read separately; each image's colour is the right side of its box."""
    import tensorflow_datasets as tfds

    class Colours(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Image(encoding_format="png")
            features = {"image": image, "objects": object_features(tfds)}
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number in range(1, 13):
                box = tfds.features.BBox(0.0, 0.0, 1.0, number / 16)
                one = {"bbox": box, "label": number % 2, "is_crowd": number == 5}
                image = np.full((16, 16, 3), number, "uint8")
                yield number, {"image": image, "objects": [one]}

    builder = Colours(data_dir=tmp_path)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    assert builder.info.splits["train"].num_shards == 3
    found = {}
    for split, count in (("train", 12), ("train[20%:70%]", 6), ("train[9:]+train[:2]", 5)):
        data = load_detection(split, name="colours", data_dir=str(tmp_path))
        assert data.num_images == count
        for image in data.images:
            number = int(image.read()[0, 0, 0])
            np.testing.assert_allclose(image.boxes, [[0, 0, number, 16]], atol=1e-4)
            assert image.classes.tolist() == [number % 2] and image.crowd.tolist() == [number == 5]
            found[number] = split
    assert len(found) == 12


def change(**changes):
    """Returns annotations with the first one changed."""
    content = coco_content()
    content["annotations"][0].update(changes)
    return content


BAD_COCO = {
    "unknown category": (change(category_id=5), "category 5"),
    "unknown image": (change(image_id=99), "image 99"),
    "string": (change(bbox=["1", 2, 3, 4]), r"must be \[x, y, width, height\]"),
    "three numbers": (change(bbox=[1, 2, 3]), "must be"),
    "no area": (change(bbox=[1, 2, 0, 4]), "no area"),
    "reversed": (change(bbox=[20, 20, -5, -5]), "no area"),
    "not a number": (change(bbox=[float("nan"), 2, 3, 4]), "NaN or infinite"),
    "outside": (change(bbox=[100, 100, 5, 5]), "outside the image"),
}


@pytest.mark.parametrize("name", BAD_COCO)
def test_bad_boxes(name, tmp_path, caplog):
    content, message = BAD_COCO[name]
    source = write_coco(tmp_path, content)
    with pytest.raises(ValueError, match=message):
        load_detection(source)
    data = load_detection(source, on_problem="skip")
    assert sum(len(image.boxes) for image in data.images) == 2
    assert len(data.problems) == 1 and data.problems[0] in caplog.text


def test_boxes_are_clipped_to_the_image(tmp_path):
    data = load_detection(write_coco(tmp_path, change(bbox=[-5, 30, 100, 20])))
    np.testing.assert_allclose(data.images[0].boxes[0], [0, 30, 60, 40])


def test_clipped_boxes_are_noted_but_no_problem(tmp_path, caplog):
    assert load_detection(write_coco(tmp_path)).notes == ()
    content = coco_content()
    for id_, bbox in ((10, [-3, 1, 9, 9]), (11, [50, 1, 16, 9]), (12, [50, 36, 10.4, 4])):
        new = {"id": id_, "image_id": 7, "category_id": 3, "bbox": bbox, "iscrowd": 0}
        content["annotations"].append(new)
    data = load_detection(write_coco(tmp_path, content))
    # a.png is 60 pixels wide: 3 and 6 of them are 5 and 10 %; 0.4 pixels are rounding.
    [note] = data.notes
    assert data.problems == () and note in caplog.text
    assert note.startswith("2 boxes reach") and "up to 10.0% of its side" in note
    assert note.endswith("clipped: a.png, annotation 11, a.png, annotation 10")
    np.testing.assert_allclose(data.images[0].boxes[3], [50, 1, 60, 10])
    np.testing.assert_allclose(data.images[0].boxes[4], [50, 36, 60, 40])


def test_at_most_five_clipped_boxes_are_named(tmp_path):
    source = write_yolo(tmp_path)
    file = tmp_path / "labels" / "train" / "a.txt"
    file.write_text("\n".join(f"0 0.9 0.5 {0.3 + side / 100} 0.5" for side in range(7)))
    [note] = load_detection(source).notes  # the last line: to 0.9 + 0.36 / 2 = 1.08
    assert note.startswith("7 boxes reach") and "up to 8.0% of its side" in note
    assert f"{file}: line 7, " in note and "line 3, ..." in note and "line 2" not in note


def test_data_are_shown_in_one_line(tmp_path):
    data = load_detection(write_coco(tmp_path))
    assert repr(data) == "<DetectionData: 2 images, 3 boxes, 2 classes (cat, dog)>"
    data = load_detection(write_coco(tmp_path, change(bbox=[1, 2, 0, 4])), on_problem="skip")
    assert repr(data).startswith("<DetectionData: 2 images, 2 boxes,")
    assert repr(data).endswith("(cat, dog), 1 problem>")


def test_crowd_regions_are_kept_apart(tmp_path):
    data = load_detection(write_coco(tmp_path, change(iscrowd=1)))
    assert data.images[0].crowd.tolist() == [True, False]
    assert len(data.box_sides((64, 64))) == 2
    _, truth = next(iter(data.batches(2, (64, 64))))
    assert (np.array(truth["classes"]) >= 0).sum() == 2


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_broken_and_missing_images(write, tmp_path, caplog):
    source = write(tmp_path)
    [file] = tmp_path.rglob("a.png")
    file.write_bytes(file.read_bytes()[:100])
    data = load_detection(source)  # only the header was read
    with pytest.raises(ValueError, match="a.png.*broken"):
        data.images[0].read()
    data = load_detection(source, on_problem="skip")
    assert [len(image.boxes) for image in data.images] == [1] and "a.png" in data.problems[0]
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="a.png.*cannot be read"):
        load_detection(source)
    file.unlink()
    if write is not write_yolo:  # there, the images are the dataset
        with pytest.raises(ValueError, match="a.png"):
            load_detection(source)


def test_image_of_another_size(tmp_path):
    source = write_coco(tmp_path)
    Image.new("RGB", (61, 40)).save(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match=r"a.png.*\(40, 61\).*\(40, 60\)"):
        load_detection(source)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1", "is not `class x y width height`"),
        ("cat 0.5 0.5 0.1 0.1", "is not `class x y width height`"),
        ("2 0.5 0.5 0.1 0.1", "class 2 does not exist; the classes are 0 to 1"),
        ("1_0 0.5 0.5 0.1 0.1", "is not `class x y width height`"),
        ("0 0.5 0.5 0.1 0_0.1", "is not `class x y width height`"),
        ("\u0661 0.5 0.5 0.1 0.1", "is not `class x y width height`"),
        ("0 30 20 10 10", "not pixels"),
        ("0 0.5 0.5 0 0.1", "no area"),
        ("0 0.5 0.5 -0.2 0.1", "no area"),
        ("0 1.5 0.5 0.1 0.1", "outside the image"),
    ],
)
def test_bad_yolo_lines(line, message, tmp_path):
    source = write_yolo(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_text(f"0 0.5 0.5 0.5 0.5\n\n{line}\n")
    with pytest.raises(ValueError, match=f"1 problem in .*\n.*a.txt: line 3: .*{message}"):
        load_detection(source)


def test_bad_xml(tmp_path):
    source = write_voc(tmp_path)
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation><object>")
    with pytest.raises(ValueError, match="a.xml: is not readable XML"):
        load_detection(source)


def test_voc_numbers_are_decimal(tmp_path):
    source = write_voc(tmp_path)
    file = tmp_path / "Annotations" / "a.xml"
    content = file.read_text()
    file.write_text(content.replace("</xmin>", "_0</xmin>"))
    with pytest.raises(ValueError, match=r"a.xml: an object \('\w+'\) has the box"):
        load_detection(source)


def test_splits(tmp_path):
    source = write_yolo(tmp_path)
    check(load_detection(source + ":val"))
    with pytest.raises(ValueError, match="no split 'test'. It has: train, val"):
        load_detection(source + ":test")
    voc = tmp_path / "voc"
    voc.mkdir()
    write_voc(voc)
    check(load_detection(voc))
    with pytest.raises(ValueError, match="no split 'val'. It has: train"):
        load_detection(f"{voc}:val")


def test_a_split_of_what_has_none(tmp_path):
    write_yolo(tmp_path)
    coco = write_coco(tmp_path)
    for source in (tmp_path / "images" / "train", coco):
        with pytest.raises(ValueError, match="Only a `data.yaml` or a VOC folder has splits"):
            load_detection(f"{source}:val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"Cannot read the annotations .*labels\.json"),
        ("[]", r"labels\.json is not a COCO file: it needs lists of images, annotations"),
        ('{"images": []}', r"labels\.json is not a COCO file"),
        ('{"images": 1, "annotations": 2, "categories": 3}', r"labels\.json is not a COCO file"),
    ],
)
def test_other_json(content, message, tmp_path):
    file = tmp_path / "labels.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_detection(file)


def test_images_that_are_nowhere(tmp_path):
    content = json.loads(pathlib.Path(write_coco(tmp_path)).read_text())
    (tmp_path / "deep" / "labels").mkdir(parents=True)
    file = tmp_path / "deep" / "labels" / "labels.json"
    for image in content["images"]:
        image["file_name"] = "missing_" + image["file_name"]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"labels\.json are in none of .*Pass their folder"):
        load_detection(file)


def test_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match="it does not exist"):
        load_detection(tmp_path / "missing")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(ValueError, match="another format"):
        load_detection(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="on_problem"):
        load_detection(write_coco(tmp_path), on_problem="ignore")


def test_options_of_other_sources(tmp_path):
    with pytest.raises(ValueError, match="TFDS datasets have their own images.*'boards'"):
        load_detection("train", name="voc/2012", images="boards")
    for load in (load_detection, load_classification):
        with pytest.raises(ValueError, match="is the folder of TFDS datasets.*data_dir='tfds'"):
            load(tmp_path, data_dir="tfds")


def read_with_problem(source, message):
    """Checks that a dataset is refused with one message, and returns what "skip" leaves."""
    with pytest.raises(ValueError, match=message):
        load_detection(source)
    data = load_detection(source, on_problem="skip")
    assert any(re.search(message, problem) for problem in data.problems)
    return data


def found_classes(data):
    return {
        pathlib.Path(image.name).name: [data.class_names[label] for label in image.classes]
        for image in data.images
    }


def test_a_category_id_that_comes_twice_renames_no_box(tmp_path):
    content = coco_content()
    content["categories"].append({"id": 3, "name": "cow"})
    data = read_with_problem(
        write_coco(tmp_path, content), "'cow' has the id 3, which 'cat' also has"
    )
    assert found_classes(data) == {"a.png": ["dog"], "b ü.png": ["dog"]}
    assert data.category_ids == (9,) and len(data.to_coco()["categories"]) == 1


def test_a_category_that_comes_twice_is_kept_once(tmp_path):
    content = coco_content()
    content["categories"].append({"id": 3, "name": "cat"})
    data = read_with_problem(write_coco(tmp_path, content), "repeats the id 3 of 'cat'")
    assert found_classes(data) == {"a.png": ["cat", "dog"], "b ü.png": ["dog"]}
    assert data.to_coco() == coco_content()


def test_an_unused_category_of_the_same_name_is_dropped(tmp_path):
    """Roboflow writes the project as a category, which may have the name of a class."""
    content = coco_content()
    content["categories"] += [{"id": 0, "name": "dog"}, {"id": 4, "name": "bird"}]
    data = load_detection(write_coco(tmp_path, content))
    assert data.class_names == ("cat", "bird", "dog")
    assert found_classes(data) == found_classes(load_detection(write_coco(tmp_path)))


def test_two_used_categories_of_the_same_name_are_refused(tmp_path):
    content = coco_content()
    for category in content["categories"]:
        category["name"] = "cat"
    with pytest.raises(ValueError, match="Class names must be unique.*Received: cat, cat"):
        load_detection(write_coco(tmp_path, content))


def test_an_image_id_that_comes_twice_drops_no_image_in_silence(tmp_path):
    content = coco_content()
    content["images"][1]["id"] = 7
    content["images"].append(content["images"][0] | {"id": 1, "file_name": "b ü.png"})
    content["images"][2].update(height=30, width=20)
    data = read_with_problem(write_coco(tmp_path, content), "'b ü.png' has the id 7, which 'a.png'")
    assert found_classes(data) == {"b ü.png": []}


@pytest.mark.parametrize("value", ["0", "false", 0.0, None, False])
def test_boxes_that_are_not_crowds_are_kept(value, tmp_path):
    data = load_detection(write_coco(tmp_path, change(iscrowd=value)))
    assert data.images[0].crowd.tolist() == [False, False]
    assert data.to_coco() == coco_content()


@pytest.mark.parametrize("value", ["1", "True", 1.0, True])
def test_crowd_values(value, tmp_path):
    data = load_detection(write_coco(tmp_path, change(iscrowd=value)))
    assert data.images[0].crowd.tolist() == [True, False]
    assert data.to_coco()["annotations"][0]["iscrowd"] == 1


@pytest.mark.parametrize("value", [[0], 2, "no", {}, -1])
def test_iscrowd_is_0_or_1(value, tmp_path):
    data = read_with_problem(write_coco(tmp_path, change(iscrowd=value)), "must be 0 or 1")
    assert found_classes(data)["a.png"] == ["dog"]


def test_swapped_height_and_width_are_refused_on_reading(tmp_path):
    content = coco_content()
    content["images"][0].update(height=60, width=40)
    data = read_with_problem(write_coco(tmp_path, content), "they are swapped")
    assert list(found_classes(data)) == ["b ü.png"]


def test_sizes_of_the_stored_pixels_are_accepted(tmp_path):
    content = coco_content()
    content["images"][0].update(file_name="a.jpg", height=40, width=60)
    source = write_coco(tmp_path, content)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "images" / "a.jpg", exif=exif)
    data = load_detection(source)
    assert data.images[0].read().shape == (40, 60, 3)
    content["images"][0].update(height=60, width=40)
    content["annotations"] = []
    data = load_detection(write_coco(tmp_path, content))
    assert data.images[0].read().shape == (60, 40, 3)


@pytest.mark.parametrize("key", ["bbox", "image_id", "category_id"])
def test_a_skipped_annotation_does_not_count_in_scores(key, tmp_path):
    content = coco_content()
    del content["annotations"][0][key]
    data = read_with_problem(write_coco(tmp_path, content), "annotation 0")
    assert data.to_coco()["annotations"] == coco_content()["annotations"][1:]
    scores = evaluate_coco(data.to_coco(), [])
    assert {name: row["boxes"] for name, row in scores.per_class.items()} == {"cat": 0, "dog": 2}


def test_a_box_without_area_does_not_count_in_scores(tmp_path):
    data = read_with_problem(write_coco(tmp_path, change(bbox=[1, 2, 0, 4])), "no area")
    assert data.to_coco()["annotations"] == coco_content()["annotations"][1:]


@pytest.mark.parametrize("area", ["large", None, [1], -3, float("nan"), float("inf")])
def test_an_unusable_area_is_that_of_the_box(area, tmp_path):
    data = load_detection(write_coco(tmp_path, change(area=area)))
    evaluate_coco(data.to_coco(), [])
    assert "area" not in data.to_coco()["annotations"][0]


BAD_ENTRIES = {
    "list as image id": ("images", {"id": [7]}, r"image number 1: has the id \[7\]; it must be"),
    "huge image id": ("images", {"id": 10**400}, "image number 1: has the id 1000"),
    "no image id": ("images", {"id": None}, "has the id None"),
    "no file name": ("images", {"file_name": None}, "file_name None; it must be a string"),
    "NUL in a file name": ("images", {"file_name": "a\0.png"}, "cannot be the name of a file"),
    "long file name": ("images", {"file_name": "a" * 5000}, "File name too long"),
    "half a character": ("images", {"file_name": "\ud800.png"}, "cannot be the name of a file"),
    "folder": ("images", {"file_name": "."}, "is a folder, a pipe or a device"),
    "huge size": ("images", {"height": 10**400}, "its record has"),
    "list as category id": ("categories", {"id": [9]}, r"category number 1: has the id \[9\]"),
    "no category name": ("categories", {"name": None}, "category number 1: has the name None"),
    "list as image": ("annotations", {"image_id": [7]}, r"belongs to image \[7\]"),
    "list as category": ("annotations", {"category_id": [3]}, r"has the category \[3\]"),
    "huge number": ("annotations", {"bbox": [10**400, 1, 1, 1]}, "it must be"),
    "infinity": ("annotations", {"bbox": [1, 1, float("inf"), 1]}, "it must be"),
    "huge annotation id": ("annotations", {"id": 10**400, "bbox": None}, "has the box None"),
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_bad_entries_are_skipped(name, tmp_path):
    key, changes, message = BAD_ENTRIES[name]
    content = coco_content()
    content[key][0].update(changes)
    data = read_with_problem(write_coco(tmp_path, content), message)
    assert "b ü.png" in found_classes(data)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_entries_that_are_no_objects_are_skipped(key, tmp_path):
    content = coco_content()
    content[key].insert(0, None)
    data = read_with_problem(write_coco(tmp_path, content), "number 1: is None")
    assert data.to_coco() == coco_content()


@pytest.mark.parametrize("key", ["images", "categories"])
def test_ids_of_mixed_types(key, tmp_path):
    content = coco_content()
    content[key][1]["id"] = "x"
    data = read_with_problem(write_coco(tmp_path, content), "id 'x', the first has [79]; ids must")
    assert len(data.to_coco()[key]) == 1
    evaluate_coco(data.to_coco(), [])


def test_ids_that_are_strings_or_whole_numbers(tmp_path):
    content = coco_content()
    for image in content["images"]:
        image["id"] = str(image["id"])
    for annotation in content["annotations"]:
        annotation["category_id"] = float(annotation["category_id"])
        annotation["image_id"] = str(annotation["image_id"])
    data = load_detection(write_coco(tmp_path, content))
    assert data.category_ids == (3, 9) and found_classes(data)["a.png"] == ["cat", "dog"]
    assert data.to_coco() == content
    evaluate_coco(data.to_coco(), [])


def test_json_that_is_nested_too_deep(tmp_path):
    file = tmp_path / "labels.json"
    file.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="labels.json: they are nested too deeply"):
        load_detection(file)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "labels.json")
    with pytest.raises(ValueError, match="is a folder, a pipe or a device"):
        load_detection(tmp_path / "labels.json")
    source = write_coco(tmp_path / "coco")
    (tmp_path / "coco" / "images" / "a.png").unlink()
    os.mkfifo(tmp_path / "coco" / "images" / "a.png")
    data = read_with_problem(source, "a.png: is a folder, a pipe or a device")
    assert list(found_classes(data)) == ["b ü.png"]


def test_polygons_become_the_box_around_them(tmp_path):
    source = write_yolo(tmp_path)
    file = tmp_path / "labels" / "train" / "a.txt"
    file.write_text("1 0.5 0.1 0.25 0.5 0.75 0.25\n0 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4\n")
    data = load_detection(source)
    np.testing.assert_allclose(data.images[0].boxes, [[15, 4, 45, 20], [6, 4, 18, 16]], atol=1e-4)
    assert data.images[0].classes.tolist() == [1, 0]


def test_keypoints_are_no_polygon(tmp_path):
    source = write_yolo(tmp_path)
    file = tmp_path / "labels" / "train" / "a.txt"
    file.write_text("1 0.5 0.5 0.5 0.5 0.9 0.9 0.1 0.1\n")
    with open(source, "a") as yaml:
        yaml.write("kpt_shape: [2, 2]\n")
    for where in (source, tmp_path):
        np.testing.assert_allclose(load_detection(where).images[0].boxes, [[15, 10, 45, 30]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("inf 0.5 0.5 0.1 0.1", "is not `class x y width height`"),
        ("1e400 0.5 0.5 0.1 0.1", "is not `class x y width height`"),
        ("nan 0.5 0.5 0.1 0.1", "is not `class x y width height`"),
        ("0 0.5 0.5 0.1 -inf", "NaN or infinite"),
        ("0 0.1 0.1 nan 0.3 0.4 0.1", "NaN or infinite"),
        ("0 1 1 20 20 10 10", "not pixels"),
        ("0 0.1 0.1 0.3 0.3 0.4 0.1 0.2", "nor a polygon"),
        ("0 0.1 0.1 0.2 0.1 0.3 0.1", "no area"),
        ("30000000 0.5 0.5 0.1 0.1", "class 30000000"),
        ("1e300 0.5 0.5 0.1 0.1", "class 1"),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_bad_yolo_lines_are_skipped(line, message, named, tmp_path):
    source = write_yolo(tmp_path)
    (tmp_path / "labels" / "train" / "a.txt").write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n")
    if not named:
        pathlib.Path(source).unlink()
        source = tmp_path
    data = read_with_problem(source, f"a.txt: line 2: .*{message}")
    assert [len(image.boxes) for image in data.images] == [1, 1]


def bomb(levels=30):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, levels)]
    merged = ["b0: &b0 {k: v}"]
    merged += [f"b{n}: &b{n} {{<<: [*b{n - 1}, *b{n - 1}]}}" for n in range(1, levels)]
    return "\n".join(lines + merged) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: *a29\ntrain: images/train\n", "must name the classes"),
        ("names: *b29\ntrain: images/train\n", "must number its 1 class from 0"),
        ("names: [cat, dog]\ntrain: *a29\n", "instead of a folder"),
        ("names: [cat, dog]\ntrain: images/train\npath: *a29\n", "must be folders"),
    ],
)
def test_alias_bombs(text, message, tmp_path):
    source = write_yolo(tmp_path)
    pathlib.Path(source).write_text(bomb() + text)
    with pytest.raises(ValueError, match=message):
        load_detection(source)


def test_class_names_that_come_twice(tmp_path):
    source = write_yolo(tmp_path)
    pathlib.Path(source).write_text("names: [cat, dog, cat]\ntrain: images/train\n")
    with pytest.raises(ValueError, match="`names` must be unique.*Repeated: 'cat'"):
        load_detection(source)


def test_class_names_stay_as_they_are_written(tmp_path):
    source = write_yolo(tmp_path)
    for names in ("[no, 007]", "{0: no, 1: 007}", "\n- no\n- 007"):
        pathlib.Path(source).write_text(f"names: {names}\ntrain: images/train\npath: null\ntest:")
        assert load_detection(source).class_names == ("no", "007")


def test_pipes_among_yolo_images(tmp_path):
    source = write_yolo(tmp_path)
    os.mkfifo(tmp_path / "images" / "train" / "c.png")
    data = read_with_problem(source, "c.png: is a folder, a pipe or a device")
    assert [len(image.boxes) for image in data.images] == [2, 1]


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + ".png", "missing.png"])
def test_lists_of_images_with_bad_names(name, tmp_path):
    source = write_yolo(tmp_path)
    pathlib.Path(source).write_text("names: [cat, dog]\ntrain: train.txt\n")
    (tmp_path / "train.txt").write_text(f"images/train/a.png\n{name}\n")
    data = read_with_problem(source, "cannot be the name|File name too long|no such file")
    assert [len(image.boxes) for image in data.images] == [2]
