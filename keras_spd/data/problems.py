"""Collects the problems of a dataset while it is read, and reports them at the end."""

import logging
import reprlib
from collections.abc import Sequence
from typing import Any

from keras_spd.images.read import ImageError, check_on_problem

_log = logging.getLogger(__name__)
_NAMED = 5  # as examples
# How to apply your own augmentation, by the class of ours.
_OWN = {
    "Augmentation": "Apply your own function to the batches, e.g. "
    "`data.batches(...).map(function)` if they are a `tf.data.Dataset`.",
    "DetectionAugmentation": "Pass your own function as `transform`.",
}


class Problems:
    """Collects the problems of a dataset and reports them as one error or warning.

    Args:
        source: Name of the dataset, for messages.
        on_problem: `"error"` or `"skip"`.

    Raises:
        ValueError: If `on_problem` is another value.
    """

    def __init__(self, source: object, on_problem: str) -> None:
        check_on_problem(on_problem)
        self.source, self.on_problem = source, on_problem
        self.lines: list[str] = []
        self.clipped: list[tuple[str, float]] = []
        self.remarks: list[str] = []

    def add(self, name: object, what: str) -> None:
        """Adds a problem with the file `name`."""
        self.lines.append(f"{name}: {what}")

    def add_clipped(self, name: str, fraction: float) -> None:
        """Adds a clipped box; it extended beyond the image by this fraction of its side."""
        self.clipped.append((name, fraction))

    def drop_broken(self, images: Sequence[Any]) -> list[Any]:
        """Returns all images or, if `on_problem` is `"skip"`, those that can be decoded."""
        if self.on_problem == "error":
            return list(images)  # broken images raise when they are read
        kept = []
        for image in images:
            try:
                image.read()
                kept.append(image)
            except ImageError as error:
                self.lines.append(str(error))
        return kept

    def notes(self) -> tuple[str, ...]:
        """Returns remarks that are not problems, one line each."""
        if not self.clipped:
            return tuple(self.remarks)
        first = sorted(self.clipped, key=lambda box: -box[1])[:_NAMED]
        names = ", ".join(name for name, _ in first)
        more = ", ..." if len(self.clipped) > _NAMED else ""
        reach = "box reaches" if len(self.clipped) == 1 else "boxes reach"
        return (
            *self.remarks,
            f"{len(self.clipped)} {reach} beyond the edge of the image, by up to "
            f"{first[0][1]:.1%} of its side; clipped: {names}{more}",
        )

    def report(self) -> dict[str, Any]:
        """Raises an error or logs a warning, depending on `on_problem`.

        Returns:
            `{"problems": ..., "notes": ...}`, arguments of `DetectionData`.

        Raises:
            ValueError: If there are problems and `on_problem` is `"error"`.
        """
        notes = self.notes()
        if self.lines:
            shown = "\n".join(f"  {line}" for line in self.lines[:10])
            such_as = ", such as" if len(self.lines) > 10 else ""
            message = f"{plural(len(self.lines), 'problem')} in {self.source}{such_as}:\n{shown}"
            if self.on_problem == "error":
                raise ValueError(
                    f"{message}\nFix them, or skip the affected images and boxes with "
                    '`on_problem="skip"` (`--on-problem skip`).'
                )
            _log.warning("%s", message)
        for note in notes:
            _log.warning("%s: %s", self.source, note)
        return {"problems": tuple(self.lines), "notes": notes}


def shorten(value: object) -> str:
    """Returns the `repr` of a value, shortened if it is long or deeply nested."""
    return reprlib.repr(value)


def plural(count: int, noun: str) -> str:
    """Returns `1 box`, `2 boxes`."""
    ending = "" if count == 1 else "es" if noun.endswith(("x", "s")) else "s"
    return f"{count} {noun}{ending}"


def name_classes(names: Sequence[str]) -> str:
    """Returns `3 classes (cat, dog, cow)`, with at most the first 5 names."""
    more = ", ..." if len(names) > _NAMED else ""
    return f"{plural(len(names), 'class')} ({', '.join(names[:_NAMED])}{more})"


def check_augmentation(augmentation: object, accepted: type) -> None:
    """Raises a `TypeError` if an augmentation is neither `None` nor of the accepted class."""
    if augmentation is not None and not isinstance(augmentation, accepted):
        raise TypeError(
            f"`augmentation` must be a `keras_spd.data.{accepted.__name__}` or `None`. Received: "
            f"{shorten(augmentation)}. {_OWN[accepted.__name__]}"
        )


def check_data(kind: type, **named: Any) -> None:
    """Raises a `ValueError` unless all data is of this class, or `None`.

    Args:
        kind: `ClassificationData` or `DetectionData`.
        **named: The data, by the name of its argument.
    """
    for name, data in named.items():
        if data is not None and not isinstance(data, kind):
            raise ValueError(
                f"`{name}` must be a `keras_spd.data.{kind.__name__}` for this recipe, or `None` "
                f"for the recipe's own data. Received: data of type {type(data).__name__}."
            )


def check_same_preprocessing(train: Any, other: Any, name: str) -> None:
    """Raises a `ValueError` if training data and another split scale or resize differently.

    Args:
        train, other: `ClassificationData` or `DetectionData`.
        name: Name of the other split for the message, such as `"test"`.
    """
    if train.max_value != other.max_value:
        raise ValueError(
            f"Training and {name} data must have the same `max_value`, which the model stores. "
            f"Received: {train.max_value} and {other.max_value}. Read the {name} data with "
            "`max_value=train.max_value`."
        )
    sizes = [tuple(getattr(data, "image_shape", ())[:2]) for data in (train, other)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"Training and {name} images must have the same size. Received: {sizes[0]} and "
            f"{sizes[1]} (height, width). Read both with the same `image_size`."
        )
    ways = [getattr(data, "resize", None) for data in (train, other)]
    if None not in ways and ways[0] != ways[1]:
        raise ValueError(
            f"Training and {name} data must be resized in the same way, which the model stores. "
            f"Received: resize={ways[0]!r} and {ways[1]!r}. Read both with the same `resize`."
        )
