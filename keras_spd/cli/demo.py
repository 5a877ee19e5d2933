"""`keras-spd demo`."""

import pathlib
from typing import Annotated

import typer


def demo(
    folder: Annotated[
        pathlib.Path,
        typer.Argument(help="Folder for the results. An earlier demo in it is replaced."),
    ] = pathlib.Path("demo"),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs; default: 24, or 6 with --classifier.")
    ] = None,
    classifier: Annotated[
        bool, typer.Option("--classifier", help="Train a ResNet18-SPD on 32x32 cells instead.")
    ] = False,
    web: Annotated[
        bool, typer.Option("--web", help="Serve a web page to try models; trains nothing.")
    ] = False,
    weights: Annotated[
        list[pathlib.Path] | None,
        typer.Option(
            help="With --web: a .keras or .pt file, or a name from `keras-spd list`; repeat it to "
            "compare several side by side. Default: the shipped weights, and FOLDER's model.keras."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="With --web; default: the first free port from 7860."),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="With --web: address to serve at. Any address other than the default, 127.0.0.1, "
            "lets everyone who can reach it use the page."
        ),
    ] = None,
) -> None:
    """Find small objects: fine-tune a detector on shipped images.

    Example: keras-spd demo

    Shows its average precision before and after, exports it to TFLite, compares the
    file with the Keras model, times both, and writes a picture to look at. Needs no download;
    takes about two minutes on two CPU cores.

    `--web` serves a page for your own images at 127.0.0.1, with the boxes or classes of several
    models side by side.

    Example: keras-spd demo --web --weights spd.keras --weights strided.keras
    """
    if web:
        if classifier or epochs is not None:
            raise ValueError("`--web` trains nothing: omit `--classifier` and `--epochs`.")
        from keras_spd.apps.web import default_models, serve

        serve(weights or default_models(folder), port, host=host or "127.0.0.1", say=typer.echo)
        return
    if weights or port is not None or host is not None:
        raise ValueError("`--weights`, `--port` and `--host` are for `keras-spd demo --web`.")
    if classifier:
        from keras_spd.apps.classifier_demo import run_classifier_demo as run
    else:
        from keras_spd.apps.demo import run_demo as run
    run(folder, epochs=epochs, say=typer.echo)
