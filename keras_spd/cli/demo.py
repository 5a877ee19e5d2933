"""`keras-spd demo`."""

import pathlib
from typing import Annotated

import typer


def demo(
    folder: Annotated[pathlib.Path, typer.Argument(help="Folder for the results.")] = pathlib.Path(
        "demo"
    ),
    epochs: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
) -> None:
    """Train, evaluate, export and check a ResNet18-SPD on images that come with the package.

    Example: keras-spd demo

    Needs no download; about two minutes on two CPU cores.
    """
    from keras_spd.demo import run_demo

    run_demo(folder, epochs=epochs, say=typer.echo)
