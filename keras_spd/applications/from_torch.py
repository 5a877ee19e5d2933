"""Builds the network that fits a checkpoint of the authors' code."""

import importlib
import os
from collections.abc import Mapping
from typing import Any

from keras_spd.detection.detector import Detector
from keras_spd.image_model import ImageModel
from keras_spd.typing import Array, Path
from keras_spd.weights.loading import identify, load_torch_weights
from keras_spd.weights.reader import read_checkpoint
from keras_spd.weights.yolov5 import is_old_yolov5


def load_torch_model(
    source: Path | Mapping[str, Array], downsampling: str | None = None
) -> ImageModel | Detector:
    """Builds the network for a checkpoint of the authors' PyTorch code, and loads its weights.

    Architecture, size, downsampling, number of classes, anchors and class names are read from the
    checkpoint.

    Args:
        source: Path of a `.pt`, `.pth` or `.safetensors` file, or a mapping from PyTorch names to
            arrays, as in `load_torch_weights`. No code in the file is executed.
        downsampling: `"spd"` or `"strided"` to convert a detector, with the same outputs, as
            `YOLOV5SPD(weights=source)` does; `None` to keep the downsampling of the file.

    Returns:
        `ImageModel` or `Detector`.

    Raises:
        ValueError: If the source cannot be read or does not match a network of this library.

    Example:

    >>> model = keras_spd.applications.load_torch_model("nano_best.pt")
    >>> model.name, model.num_classes
    ('yolov5_spd_n', 80)
    """
    checkpoint = read_checkpoint(source)
    identity = identify(checkpoint.arrays)
    if identity is None and is_old_yolov5(checkpoint.arrays):
        raise ValueError(
            f"{_name(source)} is from YOLOv5 v5.0 or older, whose networks (Focus, SPP) differ. "
            "Use a checkpoint from YOLOv5 v6.0 to v7.0."
        )
    if identity is None:
        raise ValueError(
            f"{_name(source)} holds {len(checkpoint.arrays)} arrays, such as "
            f"{', '.join(list(checkpoint.arrays)[:3])}. They do not belong to the authors' "
            "ResNet-SPD or YOLOv5-SPD, nor to their strided twins."
        )
    constructors = importlib.import_module("keras_spd.applications")
    if downsampling not in (None, identity.options.get("downsampling", "spd")):
        if identity.constructor != "YOLOV5SPD" or not isinstance(source, (str, os.PathLike)):
            raise ValueError(
                "`downsampling` only converts files of YOLOv5 detectors. "
                f"Received: downsampling={downsampling!r}, and {_name(source)} holds {identity}."
            )
        return constructors.YOLOV5SPD(
            identity.options["size"], weights=source, downsampling=downsampling
        )
    model = getattr(constructors, identity.constructor)(**identity.options)
    return load_torch_weights(model, checkpoint)


def _name(source: Any) -> str:
    return source if hasattr(source, "__fspath__") or isinstance(source, str) else "The source"
