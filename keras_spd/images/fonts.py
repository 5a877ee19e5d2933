"""Fonts for class names in pictures, and a fallback for names that no font can draw."""

import functools
import logging
from typing import Any

_log = logging.getLogger(__name__)


def find_font(text: str) -> str | None:
    """Finds a font that has all characters of a string, and digits for a confidence after it.

    DejaVu Sans, shipped with matplotlib, covers Latin, Greek and Cyrillic. For other scripts the
    system fonts are searched.

    Args:
        text: String.

    Returns:
        Path of a font file; `None` if no font has all characters.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    characters = {character for character in text if not character.isspace()}
    return _find("".join(sorted(characters | set("0123456789."))))


@functools.lru_cache(1024)  # bounded: users of the web page can send any text
def _find(characters: str) -> str | None:
    try:
        import matplotlib
        from matplotlib.ft2font import FT2Font
    except ImportError as error:
        raise ImportError(f"Names in pictures need `pip install matplotlib` ({error}).") from error
    needed = set(map(ord, characters))
    default = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    for path in [default] if characters.isascii() else [default, *_system_fonts()]:
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):
            continue  # a file that FreeType cannot read
        if font.scalable and needed <= set(font.get_charmap()):
            return path
    return None


@functools.cache
def _system_fonts() -> list[str]:
    """Returns the paths of the system's fonts, sans-serif ones first."""
    from matplotlib import font_manager

    # Nothing says which font suits a script.
    return sorted(font_manager.findSystemFonts(), key=lambda path: ("Sans" not in path, path))


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
    if find_font(name) is not None:
        return name
    shown = name.encode("ascii", "backslashreplace").decode() if label is None else f"class {label}"
    _log.warning(
        "No font on this machine can draw the class name %r; pictures show %r instead. Install a "
        "font for its script, such as Noto.",
        name,
        shown,
    )
    return shown
