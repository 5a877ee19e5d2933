"""Fonts for names in pictures: one that has all characters of a name, or another name."""

import functools
import logging
from typing import Any

_log = logging.getLogger(__name__)


@functools.lru_cache(1024)  # texts come from users of a web page, too
def find_font(text: str) -> str | None:
    """Finds a font that has all characters of a text.

    DejaVu Sans, which comes with matplotlib, has Latin, Greek and Cyrillic; for other scripts the
    fonts of the system are searched.

    Args:
        text: String.

    Returns:
        Path of a font file; `None` where no font has them.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib import font_manager
        from matplotlib.ft2font import FT2Font
    except ImportError as error:
        raise ImportError(f"Names in pictures need `pip install matplotlib` ({error}).") from error
    needed = {ord(character) for character in text if not character.isspace()}
    default = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    # Whether a system font is the right one cannot be told: those for text without serifs first.
    system = sorted(font_manager.findSystemFonts(), key=lambda path: ("Sans" not in path, path))
    for path in [default] if text.isascii() else [default, *system]:
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):
            continue  # a file that FreeType cannot read
        if font.scalable and needed <= set(font.get_charmap()):
            return path
    return None


def load_font(text: str, size: int) -> Any:
    """Returns a font of Pillow for a text, of a size in pixels.

    Characters that no font has are drawn as empty boxes: see `drawable`.
    """
    return _open(find_font(text) or find_font(""), size)


@functools.lru_cache(256)
def _open(path: str, size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(path, size)


@functools.lru_cache(1024)
def drawable(name: str, label: int | None = None) -> str:
    """Returns the name of a class, or another where no font of this machine can draw it.

    Args:
        name: String.
        label: Integer, the number of the class, for `"class 3"`; `None` where it is not known,
            for the codes of the letters.
    """
    if find_font(f"{name} 0.9") is not None:  # with its confidence behind it
        return name
    shown = name.encode("ascii", "backslashreplace").decode() if label is None else f"class {label}"
    _log.warning(
        "No font of this machine can draw the class name %r: in pictures it is %r. Install a font "
        "of its script, such as Noto.",
        name,
        shown,
    )
    return shown
