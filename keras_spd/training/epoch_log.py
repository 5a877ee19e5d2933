"""`log.csv`: losses and metrics of every epoch of a training run."""

import csv
import logging
import math
import pathlib
from typing import Any

import keras

from keras_spd.files import whole_file
from keras_spd.typing import Path

_log = logging.getLogger(__name__)


def read_rows(text: str) -> list[dict[str, float]]:
    """Returns the rows of a log as `{column: number}`; blank values are NaN.

    Raises:
        ValueError: If the log is damaged.
    """
    try:
        rows = csv.DictReader(text.splitlines())
        return [{key: math.nan if x == "" else float(x) for key, x in row.items()} for row in rows]
    except (TypeError, AttributeError, csv.Error) as error:  # a line with fewer or more values
        raise ValueError(f"a line does not fit the first one ({error})") from error


class LogEpochs(keras.callbacks.Callback):
    """Writes the logs of each epoch as a line of a CSV file.

    Unlike `keras.callbacks.CSVLogger`, it leaves missing values blank and accepts columns that the
    first epoch lacked, such as scores that are computed every few epochs.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = pathlib.Path(path)
        self._skipped: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        rows = []
        if self.path.is_file():
            rows = list(csv.DictReader(self.path.read_text(encoding="utf-8").splitlines()))
        rows.append({**self._numbers(logs or {}), "epoch": epoch})
        columns = sorted({name for row in rows for name in row} - {"epoch"})
        with (
            whole_file(self.path) as unfinished,
            unfinished.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, ["epoch", *columns], restval="")
            writer.writeheader()
            writer.writerows(rows)

    def _numbers(self, logs: dict[str, Any]) -> dict[str, float]:
        numbers = {}
        for name, value in logs.items():
            try:
                numbers[name] = float(keras.ops.convert_to_numpy(value))
            except (TypeError, ValueError):
                if name not in self._skipped:
                    _log.warning(
                        "%s only takes numbers: %r, which a callback added, is skipped. "
                        "Received: %r.",
                        self.path,
                        name,
                        value,
                    )
                self._skipped.add(name)
        return numbers
