"""Images on object stores: fsspec's local and memory file systems stand for them."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from keras_spd.apps.object_stores import find_images, read_image
from keras_spd.images.read import ImageError

fsspec = pytest.importorskip("fsspec", reason="needs `pip install fsspec`")


@pytest.fixture
def bucket(tmp_path):
    """Four files on fsspec's file system in memory, one of them no image and one hidden."""
    files = fsspec.filesystem("memory")
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    for name in ("photos/b.png", "photos/deep/a.PNG", "photos/notes.txt", "photos/.trash/c.png"):
        files.pipe(f"/bucket/{name}", content)
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


def test_files_folders_and_patterns(bucket, tmp_path):
    both = ["memory:///bucket/photos/b.png", "memory:///bucket/photos/deep/a.PNG"]
    assert find_images([f"{bucket}/photos"]) == both
    assert find_images([f"{bucket}/photos/b.png", tmp_path / "a.png"]) == [
        both[0],
        str(tmp_path / "a.png"),
    ]
    assert find_images([f"{bucket}/**/*.PNG"]) == both[1:]
    hidden = "memory:///bucket/photos/.trash/c.png"  # found if it is named
    assert find_images([f"{bucket}/photos/.trash/c.png"]) == [hidden]
    address = pathlib.Path(tmp_path).as_uri()
    assert find_images([address]) == [f"{address}/a.png"]
    picture = read_image(both[1], None)
    assert (np.asarray(picture) == [255, 0, 0]).all() and picture.size == (8, 6)


def test_what_is_not_there_is_named(bucket):
    with pytest.raises(ValueError, match=r"no image at memory://bucket/none"):
        find_images([f"{bucket}/none"])
    with pytest.raises(ValueError, match=r"nowhere://bucket: .*nowhere"):
        find_images(["nowhere://bucket"])
    with pytest.raises(ImageError, match=r"memory://bucket/1.png: cannot be read"):
        read_image("memory://bucket/1.png", None)
