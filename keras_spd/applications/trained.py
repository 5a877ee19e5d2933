"""Reads the trained detector given by the `weights` argument."""

import os
import pathlib

import keras
import numpy as np

from keras_spd.applications.from_torch import load_torch_model
from keras_spd.detection.anchors import standardize_anchors
from keras_spd.detection.detector import Detector
from keras_spd.image_model import ModelInfo
from keras_spd.weights import Preset, check_weights_file
from keras_spd.weights.keras_file import load_keras_file
from keras_spd.weights.paths import variables_by_path
from keras_spd.weights.trained_detector import TrainedDetector


def find_trained(
    weights: str | os.PathLike | None, preset: Preset | None = None, backbone: bool = False
) -> TrainedDetector | None:
    """Reads the detector given by `weights`.

    Args:
        weights: The `weights` argument of `YOLOV5SPD`.
        preset: The `Preset` with that name, if there is one.
        backbone: Whether a file of `YOLOV5SPDBackbone`, without classes and anchors, is accepted.

    Returns:
        `TrainedDetector`; `None` if `weights` is `None` or a `.weights.h5` file, which does not
        describe its network.

    Raises:
        ValueError: If the file does not exist, or does not hold a detector.
    """
    if weights is None:
        return None
    if preset is not None:
        anchors = standardize_anchors(None, ("P3", "P4", "P5"))
        names = preset.class_names
        return TrainedDetector(
            source=preset.name,
            arrays=preset.read(),
            num_classes=len(names),
            anchors=anchors,
            class_names=names,
            image_size=preset.image_size,
        )
    path = check_weights_file(weights)
    if path.name.endswith(".weights.h5"):
        return None
    model = load_trained(path)
    if backbone and getattr(model, "info", ModelInfo()).architecture == "YOLOV5SPDBackbone":
        return TrainedDetector(
            source=str(path), arrays=read_arrays(model), num_classes=0, anchors={}
        )
    if not isinstance(model, Detector):
        raise ValueError(
            f"A detector needs the weights of a detector. Received: {path}, which holds "
            f"{model.name!r}, of type {type(model).__name__}."
        )
    return describe(model, str(path))


def describe(model: Detector, source: str) -> TrainedDetector:
    """Returns the weights of a detector; `source` names it in messages."""
    return TrainedDetector(
        source=source,
        arrays=read_arrays(model.network),
        num_classes=model.num_classes,
        anchors=model.anchors,
        class_names=model.info.class_names,
        image_size=model.info.image_size,
        max_value=model.info.max_value,
        tile=model.info.tile,
        head=model.head.name,
        single_class_logit=getattr(model.head, "single_class_logit", False),
    )


def load_trained(path: pathlib.Path) -> keras.Model:
    """Loads a model from a `.keras` file or from a PyTorch checkpoint."""
    is_keras = path.suffix == ".keras"
    return load_keras_file(path, compile=False) if is_keras else load_torch_model(path)


def read_arrays(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the variables of a model as arrays, as `variables_by_path` names them."""
    variables = variables_by_path(model.layers)
    return {path: keras.ops.convert_to_numpy(variable) for path, variable in variables.items()}
