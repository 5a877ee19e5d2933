"""What was found as JSON and CSV files, written as it is found."""

import contextlib
import csv
import json

_BOX = ("x1", "y1", "x2", "y2")


class ResultFiles(contextlib.AbstractContextManager):
    """Writes `NAME.json`, a list of images, and `NAME.csv`, a line for each thing found.

    Both hold what was added when an error ends the program.

    Args:
        folder: Path of an existing folder.
        name: `"detections"` or `"classes"`: the name of the files, and of the list in an image's
            entry of the JSON file.

    Example:

    >>> with ResultFiles(folder, "detections") as results:
    ...     results.add({"image": "a.jpg"}, found)
    """

    def __init__(self, folder, name):
        self._name = name
        self._json = open(folder / f"{name}.json", "w", encoding="utf-8")  # noqa: SIM115
        self._csv = open(folder / f"{name}.csv", "w", encoding="utf-8", newline="")  # noqa: SIM115
        sides = _BOX if name == "detections" else ()
        columns = ["file", "frame", "time", *sides, "confidence", "class", "name"]
        self._table = csv.DictWriter(self._csv, columns, lineterminator="\n")
        self._table.writeheader()
        self._first = True

    def add(self, source, found):
        """Adds an image or a frame.

        Args:
            source: Dictionary with its `image`; or with its `video`, `frame` and `time`. What
                else is in it goes into the JSON file.
            found: `Detections` or `Classes`.
        """
        entries = found.to_json()
        self._json.write("[\n" if self._first else ",\n")
        self._json.write(json.dumps(source | {self._name: entries}, ensure_ascii=False))
        self._first = False
        place = {"file": source.get("image", source.get("video"))}
        place |= {key: source[key] for key in ("frame", "time") if key in source}
        for entry in entries:
            box = dict(zip(_BOX, entry.pop("box", ()), strict=False))
            self._table.writerow(place | box | entry)

    def flush(self):
        """Brings everything added so far to the disk."""
        self._json.flush()
        self._csv.flush()

    def __exit__(self, *error):
        self._json.write("[]\n" if self._first else "\n]\n")
        self._json.close()
        self._csv.close()
