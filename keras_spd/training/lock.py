"""Allows one training at a time in a run folder."""

import contextlib
import logging
import os
import pathlib
import platform
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(file: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a run folder. The system releases it when the process ends.

    A folder that holds nothing else is removed after an error.

    Args:
        file: Path of the lock file. It is created, and not deleted.

    Raises:
        ValueError: If another training holds the lock. The message names its process.
    """
    if fcntl is None:
        yield
        return
    with file.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise ValueError(
                f"Another training is writing to {file.parent} ({stream.read().strip()}). Wait "
                "until it ends, or choose another run folder."
            ) from None
        except OSError as error:  # a file system without locks
            _log.warning(
                "%s cannot be locked (%s). Make sure that no other training writes to it.",
                file.parent,
                error,
            )
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()}\n")
        stream.flush()
        try:
            yield
        except Exception:
            if [*file.parent.iterdir()] == [file]:  # it failed before it wrote anything
                with contextlib.suppress(OSError):  # the current folder, a mount point or a link
                    file.unlink()
                    file.parent.rmdir()
            raise
