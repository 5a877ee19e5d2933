"""Classification data in folders, including messy ones."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from keras_spd import data
from keras_spd.data.classification import folder as folder_module


@pytest.fixture
def leaves(tmp_path):
    """Two classes of 8x6 images, one of them with non-ASCII and doubled file names."""
    rng = np.random.default_rng(0)
    for name, files in (("Ähre", ["ä ö.png", "1.png", "sub/1.png"]), ("oak", ["1.png", "2.jpg"])):
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype="uint8")).save(path)
    return tmp_path


def everything(found, **options):
    batches = found.batches(2, **options)
    images, labels = zip(*(batches[index] for index in range(len(batches))), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_images_and_labels(leaves):
    found = data.from_folder(leaves)
    assert found.class_names == ("oak", "Ähre")
    assert found.image_shape == (8, 6, 3) and found.num_images == 5
    images, labels = everything(found)
    np.testing.assert_array_equal(labels, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(images[0], np.asarray(Image.open(leaves / "oak" / "1.png")))


def test_without_a_cache_the_same(leaves, monkeypatch):
    cached = everything(data.from_folder(leaves), shuffle=True)
    monkeypatch.setattr(folder_module, "_CACHE_BYTES", 0)
    read = everything(data.from_folder(leaves), shuffle=True)
    np.testing.assert_array_equal(cached[0], read[0])


def test_modes_become_rgb_and_sizes_one(leaves):
    Image.new("CMYK", (40, 30)).save(leaves / "oak" / "cmyk.jpg")
    Image.fromarray(np.full((9, 9), 40_000, "uint16")).save(leaves / "oak" / "deep.png")
    Image.new("L", (1, 1), 77).save(leaves / "oak" / "one.png")
    with pytest.raises(ValueError, match=r"differ in size: .*oak/1.png is 8x6.*--image-size"):
        data.from_folder(leaves)
    images, _ = everything(data.from_folder(leaves, image_size=4))
    assert images.shape == (8, 4, 4, 3)
    assert (images[4] == 77).all()


def test_broken_images_are_named(leaves, caplog):
    (leaves / "oak" / "empty.png").touch()
    whole = (leaves / "oak" / "1.png").read_bytes()
    (leaves / "oak" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"2 of 7 images in .*empty.png.*on_problem=\"skip\""):
        data.from_folder(leaves)
    with caplog.at_level(logging.WARNING):
        found = data.from_folder(leaves, on_problem="skip")
    assert found.num_images == 5
    assert "half.png" in caplog.text


def test_pipes_are_not_waited_for(leaves):
    os.mkfifo(next(path for path in leaves.iterdir() if path.is_dir()) / "pipe.png")
    with pytest.raises(ValueError, match="pipe.png: is a folder, a pipe or a device"):
        data.from_folder(leaves, image_size=(8, 8))
    data.from_folder(leaves, image_size=(8, 8), on_problem="skip")


def test_a_missing_class_is_reported(leaves, caplog):
    found = data.from_folder(leaves, class_names=("ash", "oak", "Ähre"))
    assert "no image of the class 'ash'" in caplog.text
    assert everything(found)[1].tolist() == [1, 1, 2, 2, 2]
    with pytest.raises(ValueError, match=r"has classes \['Ähre'\] that are not among"):
        data.from_folder(leaves, class_names=("ash", "oak"))


def test_folders_without_a_readable_image_are_named(leaves, caplog):
    for name in ("birch", "elm"):
        (leaves / name).mkdir()
    (leaves / "birch" / "1.heic").touch()
    Image.new("RGB", (6, 8)).save(leaves / "oak" / "3.jfif", "JPEG")  # as browsers save JPEG files
    found = data.from_folder(leaves)
    assert found.class_names == ("oak", "Ähre") and found.num_images == 6
    lines = [record.getMessage() for record in caplog.records]
    assert "birch is not a class" in lines[0] and lines[0].endswith(", but 1.heic.")
    assert "elm is not a class" in lines[1] and lines[1].endswith(").")


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="There is no folder"):
        data.from_folder(tmp_path / "none")
    (tmp_path / "loose.png").touch()
    with pytest.raises(ValueError, match="own folder: .*/CLASS/image.png"):
        data.from_folder(tmp_path)
    (tmp_path / "oak").mkdir()
    (tmp_path / "oak" / "1.png").touch()
    with pytest.raises(ValueError, match="None of the 1 images can be read"):
        data.from_folder(tmp_path)
