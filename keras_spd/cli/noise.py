"""Removes log lines of native libraries; as a script, filters stdin to stdout.

Lines of levels I and W are removed, and error lines known to be harmless. The script passes on
everything else immediately, including the unfinished line of a progress bar.
"""

import contextlib
import os
import re

_PLACE = rb"\d{4} \d\d:\d\d:[\d.]+ +(?:\d+ +)?[\w./+-]+:\d+\] "  # date, time, thread, file, line
_OLD_PLACE = rb"\d{4}-\d\d-\d\d \d\d:\d\d:[\d.]+: "  # TensorFlow before 2.20
_HARMLESS = (
    rb"(?:failed call to cuInit|Unable to register cu\w+ factory|NodeDef mentions attribute"
    rb"|oneDNN supports DT_)"
)
_NOISE = re.compile(
    rb"(?:"
    rb"\[?[IW]" + _PLACE + rb"|E" + _PLACE + _HARMLESS + rb"|"
    rb"" + _OLD_PLACE + rb"(?:[IW] |E \S+ " + _HARMLESS + rb")|"
    rb"(?:\x1b\[[\d;]*m)?\d{4}-\d\d-\d\d [\d:.]+ \[[VIW]:onnxruntime|"
    rb"^(?:INFO|WARNING|VERBOSE): |"  # TensorFlow Lite, and Abseil before it is ready
    rb"^To enable the following instructions: |"  # the second line of TensorFlow's about the CPU
    rb"fully_quantize: \d, inference_type: "  # TFLite's quantizer
    rb")[^\n]*\n?",
    re.MULTILINE,
)
# The start of a line that may turn out to be noise. It is held back until this is known.
_SUSPECT = re.compile(rb"\[?[IWE]\d|\x1b|\d{4}-|(?:INFO|WARNING|VERBOSE): |To enable the |fully_q")


def remove_noise(text: bytes) -> tuple[bytes, bytes]:
    """Splits text into the part to show, and an unfinished line that may turn out to be noise."""
    start = text.rfind(b"\n") + 1
    lines, last = _NOISE.sub(b"", text[:start]), text[start:]
    return (lines, last) if _SUSPECT.match(last) else (lines + last, b"")


def _filter() -> None:
    last = b""
    while chunk := os.read(0, 1 << 16):
        shown, last = remove_noise(last + chunk)
        _write(shown)
    _write(_NOISE.sub(b"", last))


def _write(text: bytes) -> None:
    while text:
        text = text[os.write(1, text) :]


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # nobody reads any more
        _filter()
