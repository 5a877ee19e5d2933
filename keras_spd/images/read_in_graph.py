"""`read.to_rgb` for JPEG and PNG files as TensorFlow operators, for SavedModels."""

from typing import Any

from keras_spd.images import depth
from keras_spd.typing import Tensor

_ORIENTATION = 0x0112  # EXIF's tag
_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"


def read_in_graph(content: Tensor, max_value: float | None = None) -> Tensor:
    """Reads an encoded image in a TensorFlow graph.

    Args:
        content: Scalar string tensor, the bytes of a JPEG or PNG file.
        max_value: As in `to_rgb`.

    Returns:
        uint8 tensor of shape `(height, width, 3)`, with the EXIF orientation applied.

    Raises:
        tf.errors.InvalidArgumentError: At run time, where `to_rgb` raises an `ImageError`.
    """
    import tensorflow as tf

    is_png = tf.strings.substr(content, 0, 8) == _PNG
    is_known = is_png | (tf.strings.substr(content, 0, 2) == _JPEG)
    tf.debugging.Assert(is_known, ["A file must be JPEG or PNG."])
    # Bit depth and colour type of a PNG file: 16-bit grayscale or 16 bits per colour.
    header = _numbers(content, 24, 2)
    is_16_bit = is_png & (tf.reduce_sum(header[:1]) == 16)
    is_gray = is_16_bit & (tf.reduce_sum(header[1:]) == 0)
    if max_value not in (None, 65535):
        tf.debugging.Assert(~is_16_bit | is_gray, [depth.colour_problem(max_value)])
    pixels = tf.cond(
        is_gray,
        lambda: _gray_16(content, max_value),
        # Also decodes PNG files. The default, fast transform differs from other decoders.
        lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
    )
    return _turn(pixels, _orientation(content, is_png))


def _gray_16(content: Tensor, max_value: float | None) -> Tensor:
    import tensorflow as tf

    values = tf.io.decode_png(content, channels=1, dtype=tf.uint16)
    values, top = tf.cast(values, tf.float64), max_value or 65535.0
    highest = tf.reduce_max(values)
    tf.debugging.Assert(highest <= top, [depth.range_problem(_as_text(highest), top, max_value)])
    return tf.image.grayscale_to_rgb(tf.cast(tf.round(values * 255 / top), tf.uint8))


def _as_text(number: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.strings.as_string(tf.cast(number, tf.int64))


def _turn(pixels: Tensor, orientation: Tensor) -> Tensor:
    """Applies an EXIF orientation, 1 to 8."""
    import tensorflow as tf

    def is_any_of(*values: int) -> Tensor:
        return tf.reduce_any(orientation == tf.constant(values, tf.int64))

    pixels = tf.cond(is_any_of(5, 6, 7, 8), lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    pixels = tf.cond(is_any_of(2, 3, 6, 7), lambda: pixels[:, ::-1], lambda: pixels)
    return tf.cond(is_any_of(3, 4, 7, 8), lambda: pixels[::-1], lambda: pixels)


def _orientation(content: Tensor, is_png: Tensor) -> Tensor:
    """Returns the EXIF orientation; 1 if there is none."""
    import tensorflow as tf

    start = _find_exif(content, is_png)
    is_little_endian = tf.strings.substr(content, tf.minimum(start, _length(content)), 2) == b"II"

    def number(values: Tensor) -> Tensor:
        """Converts each row of bytes to an integer."""
        powers = 256 ** tf.range(tf.shape(values, tf.int64)[-1], dtype=tf.int64)
        return tf.reduce_sum(values * tf.where(is_little_endian, powers, powers[::-1]), axis=-1)

    # The first directory of a TIFF header: a count, then entries of 12 bytes: tag, type, number of
    # values, value.
    directory = start + number(_numbers(content, start + 4, 4))
    count = number(_numbers(content, directory, 2))
    entries = _numbers(content, directory + 2, 12 * count)
    entries = tf.reshape(entries[: 12 * (tf.size(entries) // 12)], (-1, 12))
    is_orientation = number(entries[:, :2]) == _ORIENTATION
    found = tf.reduce_max(tf.where(is_orientation, number(entries[:, 8:10]), 0))
    return tf.where((start > 0) & (found >= 1) & (found <= 8), found, 1)


def _find_exif(content: Tensor, is_png: Tensor) -> Tensor:
    """Returns the offset of the EXIF data (its byte-order mark) before the pixels, or 0."""
    import tensorflow as tf

    end = tf.constant(-1, tf.int64)

    def big_endian(at: Tensor, count: int) -> Tensor:
        values = _numbers(content, at, count)
        return tf.reduce_sum(values * 256 ** tf.range(tf.size(values, tf.int64))[::-1])

    def text(at: Tensor, count: int) -> Tensor:
        return tf.strings.substr(content, tf.minimum(at, _length(content)), count)

    # Both return where the EXIF data would start, whether they do, whether the search ends, and
    # where the next chunk or segment is.
    def in_png(at: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reads one chunk: length, name, content, checksum."""
        name = text(at + 4, 4)
        return at + 8, name == b"eXIf", name == b"IDAT", at + 12 + big_endian(at, 4)

    def in_jpeg(at: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reads one segment: 0xFF, marker, length (of itself and the content), content."""
        is_exif = (text(at, 2) == b"\xff\xe1") & (text(at + 4, 6) == b"Exif\0\0")
        is_last = (text(at, 1) != b"\xff") | (text(at, 2) == b"\xff\xda")
        return at + 10, is_exif, is_last, at + 2 + big_endian(at + 2, 2)

    def step(at: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        inside, is_exif, is_last, next_one = tf.cond(
            is_png, lambda: in_png(at), lambda: in_jpeg(at)
        )
        is_last |= is_exif | (next_one >= _length(content))
        return tf.where(is_last, end, next_one), tf.where(is_exif, inside, found)

    first = tf.where(is_png, tf.constant(len(_PNG), tf.int64), 2)
    return tf.while_loop(lambda at, _: at >= 0, step, (first, tf.constant(0, tf.int64)))[1]


def _length(content: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.cast(tf.strings.length(content), tf.int64)


def _numbers(content: Tensor, at: Any, count: Any) -> Tensor:
    """Returns up to `count` bytes at an offset as int64; fewer at the end of the file."""
    import tensorflow as tf

    at = tf.minimum(tf.cast(at, tf.int64), _length(content))
    part = tf.strings.substr(content, at, tf.cast(count, tf.int64))
    return tf.cast(tf.io.decode_raw(part, tf.uint8), tf.int64)
