"""Fonts for class names in pictures, and a fallback for names that no font can draw."""

import functools
import logging
from typing import Any

_log = logging.getLogger(__name__)


@functools.lru_cache(1024)  # bounded: users of the web page can send any text
def find_font(text: str) -> str | None:
    """Finds a font that has all characters of a string.

    DejaVu Sans, shipped with matplotlib, covers Latin, Greek and Cyrillic. For other scripts the
    system fonts are searched.

    Args:
        text: String.

    Returns:
        Path of a font file; `None` if no font has all characters.

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
    # Nothing says which system font suits a script; try sans-serif fonts first.
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
    """Returns a Pillow font for a string, at a size in pixels.

    Characters missing from every font are drawn as empty boxes; see `drawable`.
    """
    return _open(find_font(text) or find_font(""), size)


@functools.lru_cache(256)
def _open(path: str, size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(path, size)


@functools.lru_cache(1024)
def drawable(name: str, label: int | None = None) -> str:
    """Returns a class name, or a replacement if no font on this machine can draw it.

    Args:
        name: String.
        label: Integer, the class index, for the replacement `"class 3"`; `None` if unknown, to
            replace the characters with escape codes.

    Returns:
        String that can be drawn.
    """
    if find_font(f"{name} 0.9") is not None:  # the confidence follows the name
        return name
    shown = name.encode("ascii", "backslashreplace").decode() if label is None else f"class {label}"
    _log.warning(
        "No font on this machine can draw the class name %r; pictures show %r instead. Install a "
        "font for its script, such as Noto.",
        name,
        shown,
    )
    return shown
