"""Maps the arrays of the authors' YOLOv5-SPD and of YOLOv5 v6.0 to our variables."""

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_spd.typing import Array
from keras_spd.variants import find_yolov5_size
from keras_spd.weights.maps import Entry, Identity, batch_norm_entries, conv_entry

# Our modules in the order of the authors' list `model`; `None` for modules without weights. In the
# SPD network each space-to-depth is a separate module.
_MODULES = (
    "stem", "stage2_down", "stage2_c3", "stage3_down", "stage3_c3", "stage4_down", "stage4_c3",
    "stage5_down", "stage5_c3", "sppf",
    "lateral_p5", None, None, "top_down_p4_c3", "lateral_p4", None, None, "top_down_p3_c3",
    "bottom_up_p4_down", None, "bottom_up_p4_c3", "bottom_up_p5_down", None, "bottom_up_p5_c3",
    "head",
)  # fmt: skip


def yolov5_map(network: keras.Model) -> dict[str, Entry]:
    """Returns `{PyTorch name: Entry}` for the network of a detector.

    Args:
        network: Functional model of a `Detector` with the levels P3, P4 and P5.
    """
    layers = {layer.name: layer for layer in network.layers}
    heads = [name for name in layers if re.fullmatch(r"head_p\d_conv", name)]
    if not heads:
        raise ValueError(
            "The authors' detectors have YOLOv5's head, and this model another. Pass the file as "
            "`weights` to `YOLOV5SPD`, which loads the layers that both have."
        )
    if len(heads) != 3 or "head_p3_conv" not in layers or "head_p5_conv" not in layers:
        raise ValueError(
            "The authors' detectors have the levels P3, P4 and P5. Received a model with "
            f"{', '.join(name[5:7].upper() for name in heads)}. Pass the file as `weights` to "
            "`YOLOV5SPD(levels=...)`, which loads the layers that both have."
        )
    spd = "stage2_down_spd" in layers
    entries: dict[str, Entry] = {}

    def add(prefix: str, name: str, spd_channels: int = 0) -> None:
        entries[f"{prefix}.conv.weight"] = conv_entry(layers[f"{name}_conv"], spd_channels)
        entries.update(batch_norm_entries(f"{prefix}.bn", layers[f"{name}_bn"]))

    index, spd_channels = 0, 0
    for module in _MODULES:
        prefix = f"model.{index}"
        if module == "stem":
            add(f"{prefix}.conv" if spd else prefix, module, spd_channels=12 if spd else 0)
        elif module == "head":
            for position, level in enumerate(("p3", "p4", "p5")):
                layer = layers[f"head_{level}_conv"]
                entries[f"{prefix}.m.{position}.weight"] = conv_entry(layer)
                entries[f"{prefix}.m.{position}.bias"] = Entry(layer.bias, "vector")
        elif module == "sppf":
            add(f"{prefix}.cv1", "sppf_cv1")
            add(f"{prefix}.cv2", "sppf_cv2")
        elif module and module.endswith("_c3"):
            # After a space-to-depth, the phases come first, then a lateral connection, if any.
            add(f"{prefix}.cv1", f"{module}_cv1", spd_channels)
            add(f"{prefix}.cv2", f"{module}_cv2", spd_channels)
            add(f"{prefix}.cv3", f"{module}_cv3")
            block = 1
            while f"{module}_block{block}_cv1_conv" in layers:
                for conv in ("cv1", "cv2"):
                    add(f"{prefix}.m.{block - 1}.{conv}", f"{module}_block{block}_{conv}")
                block += 1
            spd_channels = 0
        elif module:
            add(prefix, module)
            if spd and module.endswith("_down"):
                spd_channels = 4 * layers[f"{module}_conv"].filters
                index += 1
        index += 1
    return entries


def identify_yolov5(state_dict: Mapping[str, Array]) -> Identity | None:
    """Returns the `Identity` of a state dict of the authors' detectors, or `None`."""
    spd = "model.0.conv.conv.weight" in state_dict
    stem = state_dict.get("model.0.conv.conv.weight" if spd else "model.0.conv.weight")
    head = state_dict.get(f"model.{30 if spd else 24}.m.0.weight")
    if stem is None or head is None:
        return None
    third_stage = f"model.{6 if spd else 4}.m."
    blocks = len({key.split(".")[3] for key in state_dict if key.startswith(third_stage)})
    size = find_yolov5_size(stem.shape[0], blocks)
    if size is None:
        return None
    anchors = state_dict.get(f"model.{30 if spd else 24}.anchors")
    per_cell = 3 if anchors is None else anchors.shape[1]
    if head.shape[0] % per_cell:
        return None
    options: dict[str, Any] = {"size": size, "classes": head.shape[0] // per_cell - 5}
    if anchors is not None and per_cell != 3:
        pixels = anchors * np.reshape([8, 16, 32], (3, 1, 1))  # stored in units of the stride
        options["anchors"] = dict(zip(("P3", "P4", "P5"), pixels.tolist(), strict=True))
    if not spd:
        options["downsampling"] = "strided"
    return Identity("YOLOV5SPD", options)


def is_old_yolov5(state_dict: Mapping[str, Array]) -> bool:
    """Returns whether a state dict is from YOLOv5 v5.0 or older: Focus, and module 24 as head."""
    return "model.0.conv.conv.weight" in state_dict and "model.24.m.0.weight" in state_dict
