"""Every kind of image becomes upright 8-bit RGB."""

import io
import struct
import zlib

import numpy as np
import pytest
from labelled import as_shown
from PIL import Image

from keras_spd.data import from_folder
from keras_spd.images import depth, jpeg
from keras_spd.images.max_value import find_max_value
from keras_spd.images.read import (
    ImageError,
    find_images,
    image_size,
    read_image,
    to_array,
    to_rgb,
)
from keras_spd.predict import find_sources


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


@pytest.mark.parametrize("size", [(16, 16), (16, 24)])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_exif_orientation(size, orientation, file_format):
    values = np.random.default_rng(0).integers(0, 255, (size[0] // 8, size[1] // 8, 3))
    stored = np.kron(values, np.ones((8, 8, 1))).astype("uint8")
    shown = as_shown(stored, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(file_format, {})
    data = encode(Image.fromarray(stored), format=file_format, exif=exif, **options)

    def check(pixels, expected=shown):
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() < 12  # JPEG

    assert image_size(data) == shown.shape[:2]
    check(read_image(data))
    check(read_image(data, size_hw=shown.shape[:2]))
    if shown.shape != stored.shape:  # annotated on the pixels as stored
        check(read_image(data, size_hw=size), stored)
    opened = Image.open(io.BytesIO(data))
    picture = to_rgb(opened)
    check(to_array(picture))
    check(to_array(to_rgb(picture)))  # not rotated a second time
    check(to_array(to_rgb(opened)))  # nor one that is loaded


@pytest.mark.parametrize("highest", [255, 256, 4095, 65535])
def test_16_bits_are_not_scaled_by_their_own_maximum(highest):
    values = np.linspace(0, highest, 12 * 20).reshape(12, 20).astype("uint16")
    for image_format in ("PNG", "TIFF"):
        data = encode(Image.fromarray(values), format=image_format)
        for max_value in (None, 65535, highest):
            pixels = read_image(data, max_value=max_value)
            expected = np.rint(values * 255.0 / (max_value or 65535)).astype("uint8")
            np.testing.assert_array_equal(pixels, np.dstack([expected] * 3))
            same = [values, values[..., None], np.dstack([values] * 3), np.dstack([values] * 4)]
            for image in [*same, Image.fromarray(values), values.astype(">u2")]:
                np.testing.assert_array_equal(to_array(to_rgb(image, max_value=max_value)), pixels)


def test_8_bits_in_16_or_floating_point_come_back_exactly():
    values = np.arange(240, dtype="uint8").reshape(12, 20)
    wide = Image.fromarray(values.astype("uint16") * 257)
    floats = Image.fromarray(values.astype("float32") / 255)
    raw = Image.fromarray(values.astype("float32"))
    eight = encode(Image.fromarray(values))
    for pixels in (
        read_image(encode(wide)),
        read_image(encode(floats, format="TIFF")),
        read_image(encode(raw, format="TIFF"), max_value=255),
        read_image(eight),
        read_image(eight, max_value=4095),  # 8 bits are unchanged
    ):
        np.testing.assert_array_equal(pixels[..., 0], values)


@pytest.mark.parametrize(
    ("values", "max_value", "message"),
    [
        (np.float32([[0, 300]]), None, r"photo: .* up to 300, above the default .* of 1\. Pass"),
        (np.float32([[0, np.nan]]), 1.0, "photo: .*NaN or infinite"),
        (np.float32([[0, np.inf]]), 1.0, "photo: .*infinite"),
        (np.int32([[-3, 0]]), None, r"photo: .*negative values \(-3\)"),
        (np.int32([[0, 70000]]), None, "photo: .*up to 70000, above the default"),
        (np.uint16([[0, 5000]]), 4095, "photo: .*up to 5000, above max_value=4095"),
    ],
)
def test_values_that_cannot_be_decided(values, max_value, message):
    with pytest.raises(ImageError, match=message):
        read_image(encode(Image.fromarray(values), format="TIFF"), "photo", max_value=max_value)
    with pytest.raises(ImageError, match=message):
        to_rgb(Image.fromarray(values), "photo", max_value=max_value)


@pytest.mark.parametrize("max_value", [0, -1, np.nan, np.inf, "4095", True])
def test_max_value_is_a_positive_number(max_value):
    with pytest.raises(ValueError, match="`max_value` must be a positive number"):
        to_rgb(np.zeros((3, 4), "uint16"), max_value=max_value)


def test_colour_of_16_bits():
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(">HHH", 65535, 4095, 0))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    data += chunk(b"IEND", b"")
    assert read_image(data)[0, 0].tolist() == [255, 15, 0]
    with pytest.raises(ImageError, match="16-bit colour image.*max_value=4095"):
        read_image(data, max_value=4095)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_pillow_images_and_arrays_are_read_as_files_are(mode):
    image = gradient("RGB").convert(mode)
    expected = read_image(encode(image, format="TIFF" if mode == "CMYK" else "PNG"))
    np.testing.assert_array_equal(to_array(to_rgb(image)), expected)
    if mode in ("L", "RGB", "RGBA"):
        np.testing.assert_array_equal(to_array(to_rgb(np.asarray(image))), expected)


@pytest.mark.parametrize(
    "image",
    [
        None,
        3,
        [[1, 2]],
        np.zeros(3, "uint8"),
        np.zeros((0, 4), "uint8"),
        np.zeros((3, 4, 2), "uint8"),
        np.zeros((1, 3, 4, 3), "uint8"),
        np.zeros((3, 4, 3), "float32"),
        np.zeros((3, 4), "int64"),
        np.zeros((3, 4), bool),
        np.array(["cat.jpg"]),
    ],
)
def test_files_that_are_not_images(image):
    with pytest.raises(ImageError, match="must be a path, .*\\. Received: "):
        to_rgb(image)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F"])
def test_strips_change_nothing(mode, monkeypatch):
    image = gradient(mode)
    if mode == "F":
        image = Image.fromarray(np.asarray(image) / np.float32(255))
    data = encode(image, format="TIFF")
    whole = read_image(data)
    if mode in ("L", "RGB"):
        np.testing.assert_array_equal(whole, np.asarray(image.convert("RGB")))
    elif mode == "I;16":
        expected = (np.asarray(image, "float64") / 65535 * 255).round().astype("uint8")
        np.testing.assert_array_equal(whole[..., 0], expected)
    monkeypatch.setattr(depth, "_STRIP", 40)  # two rows
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


def test_too_much_text_in_a_png_file(tmp_path):
    """Pillow raises a `ValueError` without the file's name, already when it is opened."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    text = b"a\0\0" + zlib.compress(bytes(2**21))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + text))
    content = stream.getvalue()
    (tmp_path / "bomb.png").write_bytes(content[:33] + chunk + content[33:])
    with pytest.raises(ImageError, match=r"bomb.png: cannot be read as an image \(Decompressed"):
        read_image(tmp_path / "bomb.png")


def test_truncated():
    data = encode(Image.effect_noise((90, 90), 60), format="JPEG")
    assert image_size(data) == (90, 90)
    with pytest.raises(ImageError, match="photo: the image is broken"):
        read_image(data[: len(data) // 2], "photo")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"exif": True}])
def test_jpeg_pixels_are_those_of_pillow(mode, options):
    """OpenCV decodes most of them: without Python's lock, but to the same pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), "uint8")
    image = Image.fromarray(noise).resize((77, 63), Image.Resampling.BICUBIC).convert(mode)
    if options == {"exif": True}:
        exif = Image.Exif()
        exif[0x010E] = "a thumbnail ends here: \xff\xd9"
        options = {"exif": exif.tobytes() + b"\xff\xd9"}
    data = encode(image, format="JPEG", quality=85, **options)
    np.testing.assert_array_equal(read_image(data), to_array(to_rgb(data)))
    with Image.open(io.BytesIO(data)) as opened:
        assert (jpeg.decode(data, opened) is None) == (mode == "CMYK")


def test_jpeg_files_that_are_left_to_pillow():
    """OpenCV would fill missing rows with gray, where Pillow raises an error."""
    data = encode(Image.effect_noise((90, 90), 60), format="JPEG")
    early_end = data[:2000] + b"\xff\xd9" + data[2000:]
    for content in (data[:2000], data[:2000] + b"\xff\xd9" * 2, early_end, data + b"\0"):
        with Image.open(io.BytesIO(content)) as opened:
            assert jpeg.decode(content, opened) is None
    np.testing.assert_array_equal(read_image(data + b"\0"), read_image(data))


def test_find_max_value(tmp_path):
    def file(values):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tif"
        Image.fromarray(values).save(path)
        return path

    eight = file(np.full((3, 4), 200, "uint8"))
    assert find_max_value([]) is None and find_max_value([eight]) is None
    for highest, expected in [(255, 255), (256, 1023), (3967, 4095), (9000, 16383), (20000, 65535)]:
        low = file(np.full((3, 4), 7, "uint16"))
        assert find_max_value([low, file(np.full((3, 4), highest, "uint16")), eight]) == expected
    assert find_max_value([file(np.full((3, 4), 0.25, "float32"))]) == 1
    assert find_max_value([file(np.full((3, 4), 300.5, "float32"))]) == 1023
    with pytest.raises(ImageError, match="tif: the image has negative values"):
        find_max_value([file(np.full((3, 4), -1, "float32"))])
    with pytest.raises(ImageError, match="no such file"):
        find_max_value([tmp_path / "missing.tif"])


def test_hidden_files_are_no_data(tmp_path):
    """Jupyter's copies would be another class or duplicate images; macOS's files are broken."""
    names = ("a/0.png", "b/0.png", ".ipynb_checkpoints/0.png", "a/.ipynb_checkpoints/0-copy.png")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "a" / "._0.png").write_bytes(b"macOS")
    data = from_folder(tmp_path)
    assert (data.num_images, data.class_names) == (2, ("a", "b"))
    visible = [tmp_path / name for name in names[:2]]
    assert find_images(tmp_path) == find_sources([tmp_path]) == visible
    assert find_images((tmp_path / names[2]).parent) == [tmp_path / names[2]]  # asked for by name


def test_links_to_folders_are_followed(tmp_path):
    (tmp_path / "large").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "large" / "0.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "train").symlink_to(tmp_path / "large")
    (data / "valid").symlink_to(tmp_path / "large")  # each image once
    (tmp_path / "large" / "back").symlink_to(data)  # no endless loop
    assert find_images(data) == find_sources([data]) == [data / "train" / "0.png"]
