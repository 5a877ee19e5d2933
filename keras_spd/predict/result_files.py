"""JSON and CSV files of results, written while prediction runs."""

import contextlib
import csv
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, TextIO

from keras_spd.files import whole_file
from keras_spd.predict.results import Classification, Detections

_BOX = ("x1", "y1", "x2", "y2")


class ResultFiles(contextlib.AbstractContextManager):
    """Writes `NAME.json`, a list of images, and `NAME.csv`, a row for each result.

    They replace the files of an earlier run once they are complete. After an error, both hold
    everything added so far; on a full disk, everything up to the last flush.

    Args:
        folder: Path of an existing folder.
        name: `"detections"` or `"classes"`: the name of the files, and of the list in an image's
            entry of the JSON file.

    Example:

    >>> with ResultFiles(folder, "detections") as results:
    ...     results.add({"image": "a.jpg"}, found)
    """

    def __init__(self, folder: str | os.PathLike, name: str) -> None:
        self._name = name
        self._files = contextlib.ExitStack()
        self._json = self._open(pathlib.Path(folder) / f"{name}.json")
        self._csv = self._open(pathlib.Path(folder) / f"{name}.csv")
        sides = _BOX if name == "detections" else ()
        columns = ["file", "frame", "time", *sides, "confidence", "class", "name"]
        self._table = csv.DictWriter(self._csv, columns, lineterminator="\n")
        self._table.writeheader()
        self._json.write("[")
        self._separator = "\n"
        self._flushed = {self._json: 0, self._csv: 0}

    def _open(self, path: pathlib.Path) -> TextIO:
        unfinished = self._files.enter_context(whole_file(path))
        # A file name that is not UTF-8 is written with escapes.
        return open(unfinished, "w", encoding="utf-8", errors="backslashreplace", newline="")

    def add(self, source: Mapping[str, Any], found: Detections | Classification) -> None:
        """Adds an image or a frame.

        Args:
            source: Dictionary with `image`, or with `video`, `frame` and `time`. Other entries
                are written to the JSON file only.
            found: `Detections` or `Classification`.
        """
        entries = found.to_json()
        entry = json.dumps({**source, self._name: entries}, ensure_ascii=False)
        self._json.write(self._separator + entry)
        self._separator = ",\n"
        origin = {"file": source.get("image", source.get("video"))}
        origin |= {key: source[key] for key in ("frame", "time") if key in source}
        for result in entries:
            box = dict(zip(_BOX, result.pop("box", ()), strict=False))
            self._table.writerow(origin | box | result)

    def flush(self) -> None:
        """Writes everything added so far to disk."""
        for file in self._flushed:
            file.flush()
            self._flushed[file] = os.fstat(file.fileno()).st_size

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        is_empty = self._separator == "\n"
        try:
            self._close(self._json, "]\n" if is_empty else "\n]\n")
            self._close(self._csv, "")
        except OSError as full:
            self._files.__exit__(type(full), full, full.__traceback__)
            raise
        if kind is not None and is_empty:
            self._files.__exit__(kind, error, traceback)  # keeps the files of an earlier run
        self._files.close()

    def _close(self, file: TextIO, ending: str) -> None:
        """Writes the end of a file; on a full disk, right after the last flush."""
        try:
            with file:
                file.write(ending)
        except OSError:
            flushed = self._flushed[file]
            if not flushed:
                raise
            with open(file.name, "r+b") as cut:
                cut.truncate(flushed)
                cut.seek(flushed)
                cut.write(ending.encode())
