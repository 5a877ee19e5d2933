"""Every kind of image becomes RGB with 8 bits, upright."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_spd.images import read as images
from keras_spd.images.read import ImageError, image_size, read_image


def encode(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def gradient(mode):
    values = np.arange(12 * 20).reshape(12, 20)
    if mode == "I;16":
        return Image.fromarray((values * 270).astype("uint16"))
    return Image.fromarray(values.astype("uint8")).convert(mode)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "1", "I;16"])
def test_modes(mode):
    pixels = read_image(encode(gradient(mode)))
    assert pixels.shape == (12, 20, 3) and pixels.dtype == np.uint8
    assert pixels.max() > 200 and pixels.min() < 20


def test_cmyk():
    image = Image.new("CMYK", (20, 12), (255, 0, 0, 0))
    pixels = read_image(encode(image, format="JPEG"))
    assert pixels.shape == (12, 20, 3)
    assert pixels[0, 0, 0] < 40 and pixels[0, 0, 1] > 150  # cyan


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (20, 12), colour) for colour in ("red", "blue")]
    data = encode(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert read_image(data)[0, 0].tolist() == [255, 0, 0]


def test_turned_by_exif_unless_the_annotations_say_otherwise():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.new("RGB", (20, 12)), format="JPEG", exif=exif)
    assert image_size(data) == (20, 12) and read_image(data).shape == (20, 12, 3)
    assert read_image(data, size_hw=(20, 12)).shape == (20, 12, 3)
    assert read_image(data, size_hw=(12, 20)).shape == (12, 20, 3)
    with pytest.raises(ImageError, match=r"photo.*\(20, 12\).*\(5, 5\)"):
        read_image(data, "photo", size_hw=(5, 5))


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F"])
def test_strips_change_nothing(mode, monkeypatch):
    image = gradient(mode)
    data = encode(image, format="TIFF")
    whole = read_image(data)
    if mode in ("L", "RGB"):
        np.testing.assert_array_equal(whole, np.asarray(image.convert("RGB")))
    elif mode == "I;16":
        expected = (np.asarray(image, "float64") / 65535 * 255).astype("uint8")
        np.testing.assert_array_equal(whole[..., 0], expected)
    monkeypatch.setattr(images, "_STRIP", 40)  # two rows
    np.testing.assert_array_equal(read_image(data), whole)


def test_images_that_pillow_takes_for_bombs(monkeypatch):
    data = encode(Image.new("RGB", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(ImageError, match=r"photo: .*1600 pixels.*MAX_IMAGE_PIXELS = None"):
        read_image(data, "photo")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(data).shape == (40, 40, 3)


def test_one_pixel():
    assert read_image(encode(Image.new("RGB", (1, 1)))).shape == (1, 1, 3)


@pytest.mark.parametrize("data", [b"", b"nonsense"])
def test_not_an_image(data, tmp_path):
    file = tmp_path / "bad.jpg"
    file.write_bytes(data)
    with pytest.raises(ImageError, match="bad.jpg: cannot be read"):
        read_image(file)
    with pytest.raises(ImageError, match="missing.jpg: there is no such file"):
        read_image(tmp_path / "missing.jpg")


def test_truncated():
    data = encode(Image.effect_noise((90, 90), 60), format="JPEG")
    assert image_size(data) == (90, 90)
    with pytest.raises(ImageError, match="photo: the image is broken"):
        read_image(data[: len(data) // 2], "photo")
