"""Turns failures of a run into errors that say what to do."""

import contextlib
import errno
import re
import shlex
from collections.abc import Iterator

from keras_spd.data.problems import plural
from keras_spd.training.run_folder import RunFolder
from keras_spd.training.saved_state import saved_epochs

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def explained(folder: RunFolder, batch_size: int) -> Iterator[None]:
    """Explains three failures: a full disk, a batch too large for the memory, a lost worker.

    Args:
        folder: `RunFolder`.
        batch_size: Batch size of the recipe.

    Raises:
        ValueError: Instead of these errors.
    """
    try:
        yield
    except Exception as error:
        if reason := _reason(error, folder, batch_size):
            raise ValueError(f"{reason} {describe_saved_state(folder)}") from error
        raise


def _reason(error: Exception, folder: RunFolder, batch_size: int) -> str | None:
    if "Too many open files" in str(error):  # TensorFlow also calls this RESOURCE_EXHAUSTED
        return None
    if broken := re.search(r"\bImageError: (.+)", str(error)):  # wrapped by TensorFlow
        return broken[1]
    # TensorFlow's errors are not OSErrors.
    no_space = any(words in str(error) for words in ("No space left", "Disk quota exceeded"))
    if no_space or isinstance(error, OSError) and error.errno in _NO_SPACE:
        return f"The disk that holds {folder.path} is full ({error}). Free some space."
    # Names and messages of TensorFlow, PyTorch, JAX and Python.
    names = ("MemoryError", "OutOfMemoryError", "ResourceExhaustedError")
    words = str(error).lower()
    if type(error).__name__ in names or "resource_exhausted" in words or "out of memory" in words:
        return (
            f"A batch of {batch_size} images does not fit into memory, together with the network "
            "and the dataset. Lower `batch_size` (and the learning rate with it) or the image "
            "size, or use a smaller network."
        )
    if "collective" in words and ("abort" in words or "unavailable" in words or "peer" in words):
        return (
            f"Another worker has stopped ({words.splitlines()[0][:100]}). Start all of them again."
        )
    return None


def describe_saved_state(folder: RunFolder) -> str:
    """Returns how much of a stopped run is saved, and how to resume it."""
    if not folder.state.is_file():
        return "Nothing is saved yet: no epoch was completed."
    epochs = saved_epochs(folder.state)
    run = shlex.quote(str(folder.path))
    saved = f"Saved so far: {plural(epochs, 'epoch')}."
    return f"{saved} Resume with: keras-spd train --resume --run {run}"
