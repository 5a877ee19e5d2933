"""Images of every kind, each with the expected 8-bit RGB, by NumPy and Pillow only."""

import io

import numpy as np
from labelled import as_shown
from PIL import Image

SHAPES = {"oblong": (9, 14), "square": (12, 12), "thin": (1, 40), "tall": (40, 1)}


def _smooth(shape, channels, seed):
    """A picture of few colours that change slowly, as uint8."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype="uint8"))
    pixels = np.array(small.resize(shape[::-1], Image.Resampling.BICUBIC))
    alpha = rng.integers(0, 256, (*shape, 1), dtype="uint8")
    return np.concatenate([pixels, alpha], axis=-1)[..., :channels]


def _encoded(picture, kind, orientation=1):
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    picture.save(stream, kind, exif=exif)
    return stream.getvalue()


def files():
    """Yields a name, the bytes of an encoded image, and its pixels."""
    for name, shape in SHAPES.items():
        pixels = _smooth(shape, 3, seed=len(name))
        yield f"{name}.png", _encoded(Image.fromarray(pixels), "PNG"), pixels
        if name not in ("oblong", "square"):
            continue
        for turn in range(2, 9):
            shown = as_shown(pixels, turn)
            yield f"{name}{turn}.png", _encoded(Image.fromarray(pixels), "PNG", turn), shown
        for turn in range(1, 9):
            content = _encoded(Image.fromarray(pixels), "JPEG", turn)
            with Image.open(io.BytesIO(content)) as stored:
                yield f"{name}{turn}.jpg", content, as_shown(np.array(stored), turn)
    for mode in ("L", "LA", "P", "RGBA", "CMYK", "1"):
        given = Image.fromarray(_smooth(SHAPES["oblong"], 4, seed=1)).convert("RGB").convert(mode)
        if "A" in mode:
            given.putalpha(Image.fromarray(_smooth(SHAPES["oblong"], 4, seed=1)[..., 3]))
        kind = "TIFF" if mode == "CMYK" else "PNG"
        yield f"{mode}.{kind.lower()}", _encoded(given, kind), np.array(given.convert("RGB"))
    photo = Image.fromarray(_smooth(SHAPES["oblong"], 3, seed=2)).convert("CMYK")
    content = _encoded(photo, "JPEG")
    with Image.open(io.BytesIO(content)) as stored:
        yield "CMYK.jpg", content, np.array(stored.convert("RGB"))


def deep_files(max_value):
    """Yields a name, bytes and pixels of images of more than 8 bits that `max_value` holds."""
    top = max_value or 65535
    for highest in (255, 256, 4095, 65535):
        if highest <= top:
            values = deep_values(highest)
            pixels = as_rgb(values, top)
            yield f"{highest}.png", _encoded(Image.fromarray(values), "PNG"), pixels
            yield f"{highest}.tiff", _encoded(Image.fromarray(values), "TIFF"), pixels
    values = deep_values(65535).astype("float32") / 65535
    pixels = as_rgb(values, max_value or 1.0)
    yield "float.tiff", _encoded(Image.fromarray(values), "TIFF"), pixels


def deep_values(highest):
    """A 16-bit gradient, up to `highest`."""
    shape = SHAPES["oblong"]
    return np.linspace(0, highest, shape[0] * shape[1]).reshape(shape).astype("uint16")


def as_rgb(values, top):
    """Values from 0 to `top`, in one or more channels, as 8-bit RGB."""
    pixels = np.rint(values.astype("float64") * 255 / top).astype("uint8")
    pixels = pixels.reshape(*values.shape[:2], -1)
    return pixels[..., :3] if pixels.shape[-1] > 1 else pixels.repeat(3, axis=-1)


def objects(max_value):
    """Yields a name, an image of Pillow or NumPy, and its pixels."""
    top = max_value or 65535
    four = _smooth(SHAPES["oblong"], 4, seed=3)
    for channels in (1, 3, 4):
        array = four[..., :channels]
        yield f"uint8 of {channels}", array, as_rgb(array, 255)
        deep = np.rint(array * (top / 255)).astype("uint16")
        yield f"uint16 of {channels}", deep, as_rgb(deep, top)
    yield "uint8", four[..., 0], as_rgb(four[..., 0], 255)
    yield "uint16", deep[..., 0], as_rgb(deep[..., 0], top)
    yield "Pillow I;16", Image.fromarray(deep[..., 0]), as_rgb(deep[..., 0], top)
    for mode in ("RGB", "L", "LA", "P", "RGBA", "CMYK", "1"):
        picture = Image.fromarray(four[..., :3]).convert(mode)
        yield f"Pillow {mode}", picture, np.array(picture.convert("RGB"))
