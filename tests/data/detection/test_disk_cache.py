"""Decoded images on disk: the same pixels, decoded once, and again when a file changes."""

import os
import pathlib

import numpy as np
import pytest
from drawings import write_drawings
from PIL import Image

from keras_spd.data import BoxedImage, DetectionAugmentation, DetectionBatches, load_detection
from keras_spd.data.detection import boxed_image, disk_cache
from keras_spd.images.read import ImageError
from keras_spd.training import load_recipe
from keras_spd.training.detection import DetectionTask


@pytest.fixture
def drawings(tmp_path):
    return load_detection(write_drawings(tmp_path / "data", 6, size=(96, 96)))


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that were decoded."""
    names, read = [], boxed_image.read_image

    def read_image(source, name, *rest):
        names.append(name)
        return read(source, name, *rest)

    monkeypatch.setattr(boxed_image, "read_image", read_image)
    return names


def files(folder):
    return sorted(path for path in folder.iterdir())


@pytest.mark.parametrize("tile", [None, 64])
def test_batches_do_not_change_and_images_are_decoded_once(drawings, tmp_path, decoded, tile):
    def batches(data):
        data = data if tile is None else data.tiles(tile)
        augmentation = DetectionAugmentation(mosaic=0.5, translate=0.1, scale=0.5)
        made = DetectionBatches(data, 4, (64, 64), shuffle=True, augmentation=augmentation)
        return [made.load(epoch, 0) for epoch in range(2)]

    expected = batches(drawings)
    decoded.clear()
    for _ in range(2):
        for found, wanted in zip(batches(drawings.cache(tmp_path / "c")), expected, strict=True):
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, other)
    assert len(decoded) == len(set(decoded)) == len(files(tmp_path / "c"))


def test_a_changed_image_is_decoded_again(drawings, tmp_path):
    image = drawings.cache(tmp_path / "c").images[0]
    image.read()
    Image.new("RGB", (96, 96), (1, 2, 3)).save(image.source)
    assert image.read()[5, 5].tolist() == [1, 2, 3]
    assert isinstance(image.read(), np.memmap)
    pathlib.Path(image.source).unlink()
    with pytest.raises(ImageError, match="there is no such file"):
        image.read()


def test_what_decoding_depends_on_is_in_the_name(tmp_path):
    Image.fromarray(np.full((8, 8), 700, "uint16")).save(tmp_path / "deep.png")
    content = (tmp_path / "deep.png").read_bytes()
    nothing = [np.zeros((0, 4), "float32"), np.zeros(0, int), np.zeros(0, bool)]

    def read(source, max_value):
        image = BoxedImage(0, "deep", source, (8, 8), *nothing, max_value=max_value)
        return disk_cache.cached((image,), tmp_path / "c")[0].read()[0, 0, 0]

    for source in (tmp_path / "deep.png", lambda: content):
        for _ in range(2):
            assert (read(source, 700), read(source, 1400)) == (255, 128)
    assert len(files(tmp_path / "c")) == 4


def test_a_file_that_was_cut_off_is_written_again(drawings, tmp_path):
    image = drawings.cache(tmp_path / "c").images[0]
    expected = image.read()
    [path] = files(tmp_path / "c")
    os.truncate(path, 100)
    np.testing.assert_array_equal(image.read(), expected)
    assert path.stat().st_size == expected.nbytes


def test_a_full_disk_is_a_warning(drawings, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    data = drawings.cache(tmp_path / "c")
    monkeypatch.setattr(disk_cache.os, "replace", full)
    for image, other in zip(data.images, drawings.images, strict=True):
        np.testing.assert_array_equal(image.read(), other.read())
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'c'} cannot be written to (No space left on device). "
        "No more decoded images are cached."
    ]
    assert not files(tmp_path / "c")


def test_a_folder_that_cannot_be(drawings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"needs a folder it can write to\. Received: .*file"):
        drawings.cache(tmp_path / "file")


def test_in_a_recipe(drawings, tmp_path):
    annotations = str(tmp_path / "data/labels.json")
    fields = {"data.cache": str(tmp_path / "c"), "data.train": annotations}
    fields |= {"data.test": annotations, "data.image_size": [64, 64], "batch_size": 6}
    fields |= {"model.name": "yolov5_spd_n", "data.workers": 2}
    task = DetectionTask(load_recipe("short", task="detection", overrides=fields))
    task.preview(0)
    assert len(files(tmp_path / "c")) == drawings.num_images
