"""Reads videos and webcams frame by frame, and writes videos, with PyAV."""

import contextlib
import dataclasses
import fractions
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_spd.files import whole_file
from keras_spd.typing import Array, Path

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
# FFmpeg's input format and device name for camera N.
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
_TICKS = 90_000  # per second; the usual MPEG clock


class VideoError(ValueError):
    """A video that cannot be read. The message names the file."""


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Args:
        index: Integer, starting at 0.
        time: Seconds since the first frame.
        pixels: uint8 array of shape `(height, width, 3)`, RGB, upright.
    """

    index: int
    time: float
    pixels: np.ndarray


def is_video(path: Path) -> bool:
    """Returns whether a file name has the suffix of a video."""
    return pathlib.Path(path).suffix.lower() in SUFFIXES


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError('Videos need PyAV: `pip install "keras_spd[video]"`.') from error
    return av


def read_video(path: Path) -> Iterator[Frame]:
    """Yields the frames of a video file one at a time, so memory does not grow with its length.

    Args:
        path: Path of the file.

    Yields:
        `Frame`.

    Raises:
        ImportError: If PyAV is not installed.
        VideoError: If the file does not exist, is not a video, or is damaged; frames before the
            damage are yielded first.

    Example:

    >>> for frame in read_video("street.mp4"):
    ...     print(frame.index, frame.time, frame.pixels.shape)
    """
    return _frames(str(path), str(path), None)


def read_webcam(number: int) -> Iterator[Frame]:
    """Yields frames from a webcam until the caller stops.

    Args:
        number: Integer, 0 for the first camera.

    Yields:
        `Frame`.

    Raises:
        ImportError: If PyAV is not installed.
        VideoError: If the camera does not exist, or the platform is neither Linux nor macOS.

    Example:

    >>> frame = next(read_webcam(0))
    """
    if sys.platform not in _CAMERAS:
        raise VideoError(f"Webcams are supported on Linux and macOS, but not on {sys.platform}.")
    format, device = _CAMERAS[sys.platform]
    return _frames(device.format(number), f"webcam {number}", format)


def _frames(file: str, name: str, format: str | None) -> Iterator[Frame]:
    av = _av()
    try:
        container = av.open(file, format=format)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{name}: cannot be opened as a video ({error.strerror}).") from error
    with container:
        if not container.streams.video:
            raise VideoError(f"{name}: the file contains no video.")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start, index = None, 0
        try:
            for index, frame in enumerate(container.decode(stream)):
                time = frame.time
                if time is None:  # some files have no timestamps
                    time = index / float(stream.average_rate or 25)
                start = time if start is None else start
                pixels = frame.to_ndarray(format="rgb24")
                turns = round(frame.rotation / 90) % 4  # counterclockwise, as phones store it
                yield Frame(index, time - start, np.ascontiguousarray(np.rot90(pixels, turns)))
        except av.FFmpegError as error:
            where = "before the first frame" if start is None else f"after frame {index}"
            raise VideoError(f"{name}: broken {where} ({error.strerror}).") from error
        if start is None:
            raise VideoError(f"{name}: the file contains no frames.")


class VideoWriter(contextlib.AbstractContextManager):
    """Writes an .mp4 file (H.264) frame by frame, each with its timestamp.

    The file appears once it is complete. After an error it holds the frames written so far.

    Args:
        path: Path of the file.

    Example:

    >>> with VideoWriter("annotated.mp4") as video:
    ...     for frame in read_video("street.mp4"):
    ...         video.write(frame.pixels, frame.time)
    """

    def __init__(self, path: Path) -> None:
        self._av = _av()
        self._path = path
        self._file = contextlib.ExitStack()
        self._container: Any = None  # until the first frame
        self._stream: Any = None
        self._size: tuple[int, int] | None = None
        self._last = -1

    def write(self, pixels: Array, time: float) -> None:
        """Adds a frame.

        Args:
            pixels: uint8 RGB array of shape `(height, width, 3)`, the same shape for all frames.
            time: Seconds since the first frame.

        Raises:
            ValueError: If the frame has another size than the first one.
        """
        height, width = pixels.shape[:2]
        self._size = self._size or (height, width)
        if (height, width) != self._size:
            raise ValueError(
                f"All frames of a video must have the same size. Received: {height}x{width} after "
                f"{self._size[0]}x{self._size[1]} (height x width)."
            )
        if self._stream is None:
            unfinished = self._file.enter_context(whole_file(self._path))
            self._container = self._av.open(str(unfinished), "w", format="mp4")
            self._stream = self._container.add_stream("libx264", rate=30)
            # H.264 as players support it needs even sides.
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = fractions.Fraction(1, _TICKS)
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self._last = max(round(time * _TICKS), self._last + 1)
        frame.pts, frame.time_base = self._last, fractions.Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, *error: Any) -> None:
        if self._stream is None:
            return
        with self._file:
            self._container.mux(self._stream.encode())
            self._container.close()
