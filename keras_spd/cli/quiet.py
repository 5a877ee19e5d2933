"""Keeps log lines of TensorFlow and other native libraries out of the command line's output.

Native code writes directly to file descriptor 2, bypassing Python, and `TF_CPP_MIN_LOG_LEVEL` does
not silence all of it. While a command runs, the descriptor is a pipe to a small process, `noise.py`
run as a script, which passes on everything that is not known noise. A thread would not do: native
code that logs while it holds the GIL would wait for the thread forever, and a crash would lose the
thread's last lines.
"""

import contextlib
import functools
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from keras_spd.cli import noise

_SECONDS_TO_FINISH = 2  # for the filter; it only needs longer if other processes still write

P = ParamSpec("P")
R = TypeVar("R")


def quietly(command: Callable[P, R]) -> Callable[P, R]:
    """Returns a command that prints only its own lines; with `--verbose`, all of them."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if "--verbose" in sys.argv:
            return command(*args, **kwargs)
        with warnings.catch_warnings(), without_native_logs():
            warnings.simplefilter("ignore")
            return command(*args, **kwargs)

    return run


@contextlib.contextmanager
def without_native_logs() -> Iterator[None]:
    """Filters the standard error stream of this process and its children, except on Windows."""
    if sys.platform == "win32":  # Python writes to a console there without the descriptor
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stderr = os.dup(2)
            stack.callback(os.close, stderr)
            reading, writing = os.pipe()
            # In its own session, so that Ctrl-C does not end it before the command.
            command = [sys.executable, "-I", "-S", noise.__file__]
            process = subprocess.Popen(
                command, stdin=reading, stdout=stderr, stderr=stderr, start_new_session=True
            )
        except OSError:  # no such stream, or no process can be started
            yield
            return
        os.close(reading)
        os.dup2(writing, 2)
        os.close(writing)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_FINISH)


def log_to_stderr() -> None:
    """Shows the messages of this library, and only errors of other libraries."""
    handler = logging.StreamHandler()
    if "--verbose" not in sys.argv:
        handler.addFilter(lambda record: record.name.startswith("keras_spd") or record.levelno > 30)
    logging.basicConfig(format="%(message)s", handlers=[handler])
