"""Images of more than 8 bits: one depth for a data set, never one for each image."""

import numpy as np
import pytest
from PIL import Image

from keras_spd.data import from_folder, load_detection
from keras_spd.data.detection.check import describe_detection, format_description
from keras_spd.images.read import find_max_value
from tests.data.detection.test_orientation import write_coco, write_voc, write_yolo

HIGHEST = 3967  # of a camera of 12 bits


def thermal(folder, dark):
    """Writes a gradient of 16 bits, or one of an eighth of its brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.linspace(0, HIGHEST // 8 if dark else HIGHEST, 16 * 24).reshape(16, 24)
    Image.fromarray(values.astype("uint16")).save(folder / "a.png")
    return values.astype("uint16")


@pytest.mark.parametrize("write", [write_coco, write_yolo, write_voc])
def test_detection(write, tmp_path):
    for name, dark in (("light", False), ("dark", True)):
        folder = tmp_path / name
        values = thermal(folder / "images", dark)
        source = write(folder, (16, 24))
        for max_value in (None, 4095):
            data = load_detection(source, images=folder / "images", max_value=max_value)
            expected = np.rint(values * 255.0 / (max_value or 65535))
            np.testing.assert_array_equal(data.images[0].read()[..., 0], expected)
        report = describe_detection(data, (64, 64))
        assert report["max_value"] == (1023 if dark else 4095)
        said = f"pass `max_value={report['max_value']:g}`"
        assert said in format_description(report)
        too_small = load_detection(source, images=folder / "images", max_value=200)
        with pytest.raises(ValueError, match=r"a.png: the image has values up to \d+, above max_v"):
            too_small.images[0].read()
        with pytest.raises(ValueError, match="`max_value` must be a positive number"):
            load_detection(source, images=folder / "images", max_value=0)


def test_classification(tmp_path):
    values = {name: thermal(tmp_path / name, name == "b") for name in ("a", "b")}
    assert find_max_value(tmp_path.rglob("*.png")) == 4095
    data = from_folder(tmp_path, max_value=4095)
    images, labels = data.batches(2)[0]
    for image, label in zip(np.asarray(images), np.asarray(labels), strict=True):
        expected = np.rint(values["ab"[int(label)]] * 255.0 / 4095)
        np.testing.assert_array_equal(image[..., 0], expected)
    with pytest.raises(ValueError, match="above max_value=1023"):
        from_folder(tmp_path, max_value=1023)
