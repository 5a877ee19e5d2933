"""Measures time and memory of exported models, alternating, each in its own process."""

import contextlib
import dataclasses
import importlib
import logging
import multiprocessing
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from keras_spd.benchmark.loaders import LIBRARIES, LOADERS, is_channels_first
from keras_spd.checks import check_integer
from keras_spd.files import shorten
from keras_spd.images.geometry import letterbox
from keras_spd.images.read import read_image
from keras_spd.images.sizes import check_image_size

_log = logging.getLogger(__name__)
_WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Time and memory of a model file on this machine.

    Args:
        file: Path of the file.
        format: `"saved_model"`, or the suffix of the file, such as `"keras"` or `"tflite"`.
        size: Bytes on disk.
        batch_size: Images per call.
        image_size: `(height, width)` in pixels.
        median: Median time of a call, in seconds.
        p95: 95th percentile of the time of a call, in seconds.
        memory: Peak resident memory of the process in bytes, minus that of Python and of the
            libraries that load the model, such as TensorFlow. 0 on Windows.
        parameters: Number of parameters of a `.keras` file or a checkpoint; `None` for others.
        multiply_adds: Multiply-adds per image of a `.keras` file or a checkpoint; `None` for
            others.
    """

    file: str
    format: str
    size: int
    batch_size: int
    image_size: tuple[int, int]
    median: float
    p95: float
    memory: int
    parameters: int | None = None
    multiply_adds: int | None = None

    @property
    def images_per_second(self) -> float:
        """Images per second at the median time."""
        return self.batch_size / self.median


def measure_files(
    files: Sequence[str | os.PathLike],
    *,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 1,
    repeats: int = 30,
    threads: int = 2,
    image: str | os.PathLike | None = None,
) -> list[Measurement]:
    """Times models of several formats in one run, alternating between them.

    Each is loaded in its own process, so that memory and threads are separate. The processes
    alternate call by call, so that a temporary slowdown of the machine affects all of them. A call
    includes the conversion of uint8 pixels to the model's type. A file that cannot be loaded or run
    is skipped with a warning. In a script, call this function under
    `if __name__ == "__main__":`, because each process imports the script.

    Args:
        files: Paths of `.keras`, `.tflite` and `.onnx` files and of SavedModel folders, also from
            other tools, and of checkpoints that `keras_spd.predict.load_model` loads. They must
            have one input, a batch of images.
        image_size: Integer or `(height, width)`, in pixels; defaults to the size the models were
            trained at. A file of a fixed size is timed at its own, with a warning.
        batch_size: Images per call, for models that take any number.
        repeats: Number of timed calls of each model.
        threads: Number of CPU threads for each model. Keras on JAX ignores it.
        image: Path of an image to time the models on, resized to their input; defaults to noise.
            The time of a detector depends on the number of boxes that it finds.

    Returns:
        List of `Measurement` for the files that ran, in the order of `files`.

    Raises:
        ValueError: If a number is below 1, a file is missing, `image` cannot be read, or no file
            can be run; the message names the files.

    Example:

    >>> for row in keras_spd.benchmark.measure_files(["model.keras", "model.tflite"]):
    ...     print(row.file, row.median)
    """
    for name, value in {"batch_size": batch_size, "repeats": repeats, "threads": threads}.items():
        check_integer(name, value)
    files = [files] if isinstance(files, (str, os.PathLike)) else files
    for file in files:
        if not pathlib.Path(file).exists():
            raise ValueError(
                f"There is no file or folder {file}. Save shipped weights to a file to time them: "
                '`keras_spd.predict.load_model("bccd").save("bccd.keras")`.'
            )
    size = None if image_size is None else check_image_size(image_size)
    pixels = None if image is None else read_image(image)
    runs = [_Run(file) for file in files]
    try:
        for run in runs:
            run.start(size, batch_size, threads, pixels)  # loaded, one after another
        for _ in range(repeats):
            for run in runs:
                run.call()
        rows = [row for run in runs if (row := run.finish()) is not None]
    finally:
        for run in runs:
            run.end()
    problems = [run.problem for run in runs if run.problem]
    if not rows:
        raise ValueError("\n".join(problems) or "`files` is empty; pass at least one file.")
    for problem in problems:
        _log.warning("Skipped %s", problem)
    for row in rows:
        if size is not None and row.image_size != size:
            _log.warning(
                "%s only takes images of %dx%d, and was timed at that size.",
                row.file,
                *row.image_size,
            )
    return rows


class _Run:
    """A file in its own process; `problem` says why it cannot be run."""

    def __init__(self, file: str | os.PathLike) -> None:
        self.file, self.problem = str(file), ""
        self.seconds: list[float] = []
        self._process: Any = None
        self._pipe: Any = None

    def start(
        self,
        image_size: tuple[int, int] | None,
        batch_size: int,
        threads: int,
        pixels: np.ndarray | None,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self.file, image_size, batch_size, threads, pixels)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def call(self) -> None:
        if not self.problem and (seconds := self._ask("run")) is not None:
            self.seconds.append(seconds)

    def finish(self) -> Measurement | None:
        facts = None if self.problem else self._ask("stop")
        if facts is None:
            return None
        median, p95 = np.percentile(self.seconds, [50, 95])
        return Measurement(median=float(median), p95=float(p95), **facts)

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join()
            self._pipe.close()

    def _ask(self, request: str) -> Any:
        with contextlib.suppress(OSError):  # it died; `_receive` reports this
            self._pipe.send(request)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            answer = ValueError(
                "its process died. It ran out of memory, or your script calls `measure_files` "
                'outside `if __name__ == "__main__":`.'
            )
        if isinstance(answer, Exception):
            self.problem = f"{self.file}: {answer}"
            return None
        return answer


def _work(
    pipe: Connection,
    file: str,
    image_size: tuple[int, int] | None,
    batch_size: int,
    threads: int,
    pixels: np.ndarray | None,
) -> None:
    """Loads a model, runs it on request, and finally reports its measurements."""
    try:
        path = pathlib.Path(file)
        kind = "saved_model" if path.is_dir() else path.suffix[1:]
        if kind not in LOADERS:
            suffixes = ", ".join(f".{name}" for name in LOADERS if name != "saved_model")
            raise ValueError(f"it must be a SavedModel folder or a file ending in {suffixes}.")
        importlib.import_module(LIBRARIES.get(kind, "keras"))  # not part of the model's memory
        before = _peak_memory()
        run, shape, facts = LOADERS[kind](path, image_size, batch_size, threads)
        images = _make_images(shape, pixels)
        for _ in range(_WARM_UP):
            run(images)
        pipe.send("ready")
        while pipe.recv() == "run":
            start = time.perf_counter()
            run(images)
            pipe.send(time.perf_counter() - start)
        parts = path.rglob("*") if path.is_dir() else [path]
        pipe.send(
            {
                "file": file,
                "format": kind,
                "size": sum(part.stat().st_size for part in parts if part.is_file()),
                "batch_size": shape[0],
                "image_size": shape[2:4] if is_channels_first(shape) else shape[1:3],
                "memory": _peak_memory() - before,
                **facts,
            }
        )
    except KeyboardInterrupt:  # Ctrl-C reaches all processes; the parent reports it
        pass
    except Exception as error:  # handed to the parent, which names the file
        kind = "" if isinstance(error, (ValueError, ImportError)) else f"{type(error).__name__}: "
        pipe.send(ValueError(f"{kind}{shorten(error)}"))


def _make_images(shape: tuple[int, ...], pixels: np.ndarray | None) -> np.ndarray:
    """Returns a uint8 batch of noise, or of one image."""
    if pixels is None:
        return np.random.default_rng(0).integers(0, 256, shape, "uint8")
    if is_channels_first(shape):
        return np.moveaxis(_make_images((shape[0], *shape[2:], shape[1]), pixels), -1, 1).copy()
    if shape[3] != 3:
        raise ValueError(f"its images must have 3 channels, as `image` has. They have {shape[3]}.")
    return np.stack([letterbox(pixels, shape[1:3])[0]] * shape[0])


def _peak_memory() -> int:
    """Returns the peak in bytes; `ru_maxrss` would start at the peak of the parent process."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
