"""Loads a YOLOv5 detector and converts it between SPD and strides, with the same outputs."""

import dataclasses
import os
import pathlib

from keras_spd.applications.from_torch import load_torch_model
from keras_spd.applications.trained import describe
from keras_spd.applications.yolov5 import YOLOV5SPD
from keras_spd.detection.detector import Detector
from keras_spd.weights.keras_file import load_keras_file


def load_with_downsampling(source: str | os.PathLike, downsampling: str) -> Detector:
    """Loads a YOLOv5 detector as an SPD or a strided network with the same outputs.

    Args:
        source: Path of a `.keras`, `.pt`, `.pth` or `.safetensors` file.
        downsampling: `"spd"` or `"strided"`, of the result.

    Returns:
        `Detector`.

    Raises:
        ValueError: If the file holds another model, or `"strided"` is requested for an SPD
            network that uses pixels a stride would skip.

    Example:

    >>> load_with_downsampling("strided.keras", "spd").name
    'yolov5_spd_n'
    """
    if pathlib.Path(source).suffix != ".keras":
        return load_torch_model(source, downsampling)
    former = load_keras_file(source, compile=False)
    size = describe(former, str(source)).size if isinstance(former, Detector) else None
    if size is None:
        raise ValueError(
            f"`downsampling` converts YOLOv5 detectors of sizes n, s, m, l and x. {source} holds "
            f"`{former.name}`, which is none of them or has another backbone. Convert it with "
            "`keras_spd.to_spd`."
        )
    model = YOLOV5SPD(
        size,
        weights=source,
        downsampling=downsampling,
        levels=former.levels,
        head=former.head.name,
        include_rescaling=former.info.input_range == (0, 255),
        bounding_box_format=former.bounding_box_format,
    )
    model.info = dataclasses.replace(former.info, architecture=model.info.architecture)
    model.decoder = former.decoder
    return model
