"""Options that several commands share, and their parsers."""

import enum
import pathlib
from typing import Annotated, Any

import typer

from keras_spd.cli import completion

Dataset = Annotated[
    str | None, typer.Option(help="TFDS data set, such as voc/2012; DATA is then a split of it.")
]
Images = Annotated[
    pathlib.Path | None,
    typer.Option(help="Folder of the images, if it cannot be found from the annotations."),
]
DataDir = Annotated[pathlib.Path | None, typer.Option(help="Folder with prepared TFDS data sets.")]


class Reaction(enum.StrEnum):
    """What to do about a broken image or annotation."""

    ERROR = "error"
    SKIP = "skip"


OnProblem = Annotated[
    Reaction, typer.Option(help="What to do about broken images and annotations.")
]
ImageSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Input of the network, such as 640 or 480x640 (HxW)."),
]


LONGEST_SIDE = 16384  # pixels; a network at that size takes tens of GB already


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Reads `640` or `480x640`, with sides of at most `LONGEST_SIDE`."""
    if text is None:
        return None
    try:
        sides = tuple(int(side) for side in text.lower().split("x"))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError(f"A size is 640 or 480x640. Received: {text!r}.")
    if max(sides) > LONGEST_SIDE:
        raise ValueError(
            f"A size has sides of at most {LONGEST_SIDE} pixels. Received: {text!r}. For larger "
            "images, use tiles: `keras-spd predict --tile 640`."
        )
    return (sides[0], sides[-1])


def require_files(paths: list[pathlib.Path]) -> None:
    """Raises a `ValueError` for a path that does not exist, before Keras is imported."""
    for path in paths:
        if not path.exists():
            raise ValueError(f"There is no file {path}.")


def require_weights(weights: pathlib.Path) -> None:
    """Raises a `ValueError` unless `weights` is a file or a name from `keras-spd list`."""
    names = completion.weights("")
    if not weights.exists() and str(weights) not in names:
        raise ValueError(
            f"There is no file {weights}, and there are no weights of that name. "
            f"`keras-spd list` has: {', '.join(names)}."
        )


def read_detection(
    data: str,
    dataset: str | None,
    images: pathlib.Path | None,
    data_dir: pathlib.Path | None,
    on_problem: str,
    info: Any = None,
) -> Any:
    """Reads a detection data set with these options, for the model with this `ModelInfo`."""
    from keras_spd.data import load_detection

    return load_detection(
        data,
        name=dataset,
        images=images,
        data_dir=str(data_dir) if data_dir else None,
        class_names=info and info.class_names,
        on_problem=on_problem,
        max_value=info.max_value if info else "auto",
    )
