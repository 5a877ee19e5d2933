"""`keras-spd convert`."""

import pathlib
from typing import Annotated

import typer

from keras_spd.cli import parsing
from keras_spd.files import check_folder_of, whole_file


def convert(
    source: Annotated[
        pathlib.Path,
        typer.Argument(
            help="PyTorch file (.pt, .pth, .safetensors), or .keras with --downsampling."
        ),
    ],
    output: Annotated[pathlib.Path, typer.Argument(help="File to write: .keras or .weights.h5.")],
    downsampling: Annotated[
        str | None,
        typer.Option(
            help="spd or strided: downsampling of the new detector, whose outputs are those of the "
            "source. Default: the source's."
        ),
    ] = None,
) -> None:
    """Convert PyTorch weights (YOLOv5's, the authors') to Keras, or a strided detector to SPD.

    Needs neither PyTorch nor the authors' code, and executes no code in a PyTorch file. Weights
    keep their licence after conversion and training: GPL-3.0 for the authors' YOLOv5, AGPL-3.0 for
    Ultralytics'.

    Example: keras-spd convert yolov5n.pt yolov5_spd_n.keras --downsampling spd

    Example: keras-spd convert runs/strided/model.keras spd.keras --downsampling spd
    """
    if not output.name.endswith((".keras", ".weights.h5")):
        raise ValueError(f"The output must end in .keras or .weights.h5. Received: {output}.")
    check_folder_of(output)
    if downsampling not in (None, "spd", "strided"):
        raise ValueError(f"`--downsampling` must be spd or strided. Received: {downsampling}.")
    parsing.require_files([source])
    if source.suffix == ".keras" and downsampling is None:
        raise ValueError(
            f"{source} is already a .keras file. Pass `--downsampling spd` or `strided`."
        )
    from keras_spd.applications import Detector, load_torch_model
    from keras_spd.applications.downsampling import load_with_downsampling
    from keras_spd.data.problems import name_classes
    from keras_spd.detection.heads import find_head
    from keras_spd.weights.keras_file import save_weights_file

    if downsampling is None:
        model = load_torch_model(source)
    else:
        model = load_with_downsampling(source, downsampling)
    if output.suffix == ".keras":
        with whole_file(output) as unfinished:
            model.save(unfinished)
    elif isinstance(model, Detector) and model.head != find_head(None, model.levels):
        raise ValueError(
            "A .weights.h5 file has no anchors and no head, and those of this detector are not "
            f"the default ones. Write {output.name.removesuffix('.weights.h5')}.keras."
        )
    else:
        save_weights_file(model, output)
    names = model.info.class_names if output.suffix == ".keras" else None
    typer.echo(f"{output}: {model.name}, {model.count_params():,} parameters")
    if names:
        typer.echo(name_classes(names))
