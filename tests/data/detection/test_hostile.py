"""Damaged datasets are read, or refused with a `ValueError`, within a second."""

import json
import os
import pathlib
import time

import numpy as np
import pytest
from PIL import Image

from keras_spd.data import load_detection
from keras_spd.metrics import evaluate_coco

VALUES = [
    *(None, True, False, 0, -1, 0.5, 2**31, 2**63, 10**400, 1e308, 1e-320),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "0", "x", "a\0b", "\ud800", "../..", ".", "/", "y" * 5000),
    *([], [0], [[]], {}, {"id": 1}, [None] * 5),
]
WORDS = [
    *("inf", "-inf", "nan", "1e400", "-1e400", "1e308", "-5", "30000000", "1_0", "0x1", "٣", "%"),
    *(
        "a\0b",
        "x" * 5000,
        "",
        " ",
        "\n",
        "\t",
        "0.5 " * 7,
        "0.5 " * 8,
        "[",
        "{",
        "*a",
        "&a",
        "!!int",
    ),
]


def write_images(folder):
    folder.mkdir(parents=True)
    for name in "ab":
        Image.new("RGB", (60, 40)).save(folder / f"{name}.png")


def coco():
    box = {"category_id": 3, "iscrowd": 0, "area": 600}
    return {
        "images": [
            {"id": number, "file_name": f"{name}.png", "height": 40, "width": 60}
            for number, name in enumerate("ab", start=1)
        ],
        "annotations": [
            box | {"id": n, "image_id": n % 2 + 1, "bbox": [1, 2, 30, 20]} for n in range(4)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
    }


def places(value):
    """Yields every container in a JSON value with each of its keys."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def damage_coco(folder, rng):
    """Changes some values of the annotations, or cuts the file."""
    content = coco()
    for _ in range(rng.integers(1, 4)):
        found = list(places(content))
        container, key = found[rng.integers(len(found))]
        if rng.random() < 0.25:
            del container[key]
        else:
            container[key] = VALUES[rng.integers(len(VALUES))]
        if not content:
            break
    text = json.dumps(content)
    if rng.random() < 0.1:
        text = text[: rng.integers(len(text))]
    (folder / "labels.json").write_text(text)


def damage_yolo(folder, rng):
    """Changes some words of the label files and of `data.yaml`, or cuts one of them."""
    files = {
        "labels/a.txt": "0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.1 0.1\n",
        "labels/b.txt": "1 0.1 0.1 0.5 0.1 0.5 0.6\n",
        "data.yaml": "path: .\ntrain: list.txt\nval: [ images , images ]\nnames: [ cat , dog ]\n",
        "list.txt": "images/a.png\nimages/b.png\n",
    }
    for _ in range(rng.integers(1, 4)):
        name = list(files)[rng.integers(len(files))]
        words = files[name].replace("\n", " \n ").split(" ")
        word = WORDS[rng.integers(len(WORDS))]
        words[rng.integers(len(words))] = word
        files[name] = " ".join(words).replace(" \n ", "\n")
    (folder / "labels").mkdir(exist_ok=True)
    for name, text in files.items():
        encoded = text.encode()
        if rng.random() < 0.1:
            encoded = encoded[: rng.integers(len(encoded) + 1)] + bytes([rng.integers(256)])
        (folder / name).write_bytes(encoded)


def voc(name="a"):
    words = [
        *("<annotation>", "<filename>", f"{name}.png", "</filename>"),
        *("<size>", "<width>", "60", "</width>", "<height>", "40", "</height>", "</size>"),
    ]
    for label in ("cat", "dog"):
        words += ["<object>", "<name>", label, "</name>", "<bndbox>"]
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), (2, 3, 31, 22), strict=True):
            words += [f"<{side}>", str(value), f"</{side}>"]
        words += ["</bndbox>", "</object>"]
    return [*words, "</annotation>"]


XML = [
    *("</object>", "<object>", "<a>", "<a/>", "&amp;", "&b;", "<![CDATA[x]]>", "<!-- x -->"),
    *('<?xml version="1.0" encoding="gbk"?>', '<!DOCTYPE a [<!ENTITY b "x">]>', "<a>" * 5000),
]


def damage_voc(folder, rng):
    """Changes some words of the annotations and the list of a split, or cuts one of them."""
    files = {"Annotations/a.xml": voc(), "Annotations/b.xml": voc("b")}
    files["ImageSets/Main/train.txt"] = ["a", "\n", "b", "\n"]
    for _ in range(rng.integers(1, 4)):
        words = files[list(files)[rng.integers(3)]]
        place, changes = rng.integers(len(words)), [*WORDS, *XML]
        change = changes[rng.integers(len(changes))]
        words[place : place + rng.integers(3)] = [change.replace("\ud800", "")]
    for name, words in files.items():
        encoded = "".join(words).encode(
            rng.choice(["utf-8", "utf-8", "utf-16", "cp1252"]), "replace"
        )
        if rng.random() < 0.1:
            encoded = encoded[: rng.integers(len(encoded) + 1)] + bytes([rng.integers(256)])
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded)


def damage_image(folder, rng):
    """Cuts one image, or overwrites a byte of it."""
    file = folder / "images" / f"{rng.choice(['a', 'b'])}.png"
    content = bytearray(file.read_bytes())
    if rng.random() < 0.5:
        content = content[: rng.integers(len(content))]
    else:
        content[rng.integers(len(content))] = rng.integers(256)
    file.write_bytes(content)


def read(source, on_problem):
    """Returns the dataset, or `None` if it is refused as it should be."""
    start = time.process_time()
    try:
        data = load_detection(source, on_problem=on_problem)
    except ValueError as error:
        assert str(error)
        data = None
    assert time.process_time() - start < 1
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (damage_coco, "labels.json"),
        (damage_yolo, "data.yaml"),
        (damage_yolo, "data.yaml:val"),
        (damage_voc, "."),
        (damage_voc, ".:train"),
    ],
)
def test_damaged_data_are_read_or_refused(damage, name, tmp_path):
    read_ones = 0
    for seed in range(150):
        rng, folder = np.random.default_rng(seed), tmp_path / str(seed)
        write_images(folder / "images")
        damage(folder, rng)
        if rng.random() < 0.1:
            damage_image(folder, rng)
        try:
            strict = read(f"{folder}/{name}", "error")
            lenient = read(f"{folder}/{name}", "skip")
            check(strict)
            check(lenient)
        except Exception as error:
            error.add_note(f"seed {seed} of {damage.__name__}")
            raise
        if strict is not None:  # data without problems loses nothing if problems are skipped
            assert (
                lenient is not None
                and lenient.num_images == strict.num_images
                or any("broken" in problem for problem in lenient.problems)
            )
        read_ones += lenient is not None
    assert read_ones > 30  # some damage leaves something to test


def check(data):
    """Checks that all boxes are inside their images, and that scores count exactly these."""
    if data is None or not data.images:
        return
    for image in data.images:
        height, width = image.size_hw
        assert np.isfinite(image.boxes).all() and (image.boxes >= 0).all()
        assert (image.boxes <= [width, height, width, height]).all()
        assert (image.classes < len(data.class_names)).all()
    count = sum((~image.crowd).sum() for image in data.images)
    if count:
        scores = evaluate_coco(data.to_coco(), [])
        assert sum(row["boxes"] for row in scores.per_class.values()) == count


def test_without_damage(tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "labels.json").write_text(json.dumps(coco()))
    data = load_detection(pathlib.Path(tmp_path / "labels.json"))
    assert [len(image.boxes) for image in data.images] == [2, 2]
    check(data)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"<annotation>": '<!DOCTYPE a [<!ENTITY b "x">]><annotation>'}, "declares entities"),
        ({"<annotation>": "<annotation>" + "<a>" * 100_000}, "is not readable XML"),
        ({"<annotation>": '<?xml version="1.0" encoding="x-y"?><annotation>'}, "unknown encoding"),
        ({"<annotation>": '<?xml version="1.0" encoding="gbk"?><annotation>'}, "multi-byte enc"),
        ({"<annotation>": "<html>", "</annotation>": "</html>"}, "not a VOC annotation, but a <"),
        ({"cat": " "}, "has no name"),
        ({"<bndbox>": "<box>", "</bndbox>": "</box>"}, "'cat'. has no box"),
        ({"31": "nan"}, "has the box .'2', '3', 'nan', '22'"),
        ({"31": "1e400"}, "has the box"),
        ({"31": "9" * 400}, "has the box"),
        ({"<xmin>": "<x>", "</xmin>": "</x>"}, "has the box .None, '3'"),
        ({"60": "40", "40": "60"}, r"has height 60 and width 40, but .* has \(40, 60\)"),
        ({"60": "600", "40": "400"}, "has height 400 and width 600"),
        ({"a.png": "y" * 5000, "<annotation>": "<annotation><a/>"}, ""),
    ],
)
def test_hostile_xml(words, message, tmp_path):
    write_images(tmp_path / "images")
    text = "".join(words.get(word, word) for word in voc())
    (tmp_path / "a.xml").write_text(text)
    if not message:  # the image is found by the name of the file
        assert len(load_detection(tmp_path).images[0].boxes) == 2
        return
    with pytest.raises(ValueError, match=message) as error:
        load_detection(tmp_path)
    assert "a.xml: " in str(error.value) and len(str(error.value)) < 700
    (tmp_path / "b.xml").write_text("".join(voc("b")))
    skipped = load_detection(tmp_path, on_problem="skip")
    assert skipped.problems and len(skipped.images[-1].boxes) == 2


@pytest.mark.parametrize("sides", [("0", "0"), ("", ""), ("60.0", "40.0"), ("inf", "-1")])
def test_a_size_that_says_nothing(sides, tmp_path):
    write_images(tmp_path / "images")
    words = dict(zip(("60", "40"), sides, strict=True))
    (tmp_path / "a.xml").write_text("".join(words.get(word, word) for word in voc()))
    [image] = load_detection(tmp_path).images
    assert image.size_hw == (40, 60) and len(image.boxes) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xml", r"train\.txt: names 'a', which is not in .*Annotations"),
        ("a.png", r"a\.xml: its image 'a\.png' is in none of"),
        ("ImageSets/Main/train.txt", r"Cannot read the split .*train\.txt: .*a pipe"),
    ],
)
def test_pipes_are_refused(name, message, tmp_path):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(tmp_path / "JPEGImages" / "a.png")
    (tmp_path / "Annotations" / "a.xml").write_text("".join(voc()))
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    [file] = [path for path in tmp_path.rglob("*") if str(path).endswith(name)]
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ValueError, match=message):
        load_detection(f"{tmp_path}:train")
