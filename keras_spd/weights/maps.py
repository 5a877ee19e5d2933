"""Maps the arrays of the authors' PyTorch ResNets to our variables.

A map is derived from the layer names of a model, so it covers every depth and variant.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from keras_spd.algebra import columns_to_rows
from keras_spd.typing import Array, Shape
from keras_spd.variants import RESNETS


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a state dict and the variable it fills."""

    variable: keras.Variable
    kind: str  # "conv", "dense" or "vector"
    spd_channels: int = 0  # how many of its first channels a space-to-depth produces

    @property
    def shape(self) -> Shape:
        """Shape of the array, in PyTorch's layout."""
        shape = tuple(self.variable.shape)
        return {"conv": (*shape[:1:-1], *shape[:2]), "dense": shape[::-1], "vector": shape}[
            self.kind
        ]

    def convert(self, array: Array) -> Array:
        """Converts an array from PyTorch's layout and phase order to ours."""
        if self.kind == "conv":
            array = np.transpose(array, (2, 3, 1, 0))  # OIHW to HWIO
        elif self.kind == "dense":
            array = np.transpose(array)
        if self.spd_channels:
            axis = 2 if self.kind == "conv" else 0
            phases, rest = np.split(array, [self.spd_channels], axis=axis)
            array = np.concatenate([columns_to_rows(phases, axis=axis), rest], axis=axis)
        return array


def conv_entry(layer: keras.layers.Layer, spd_channels: int = 0) -> Entry:
    return Entry(
        layer.conv.kernel if hasattr(layer, "conv") else layer.kernel, "conv", spd_channels
    )


def batch_norm_entries(
    prefix: str, layer: keras.layers.Layer, spd_channels: int = 0
) -> dict[str, Entry]:
    variables = {
        "weight": layer.gamma,
        "bias": layer.beta,
        "running_mean": layer.moving_mean,
        "running_var": layer.moving_variance,
    }
    return {
        f"{prefix}.{key}": Entry(variable, "vector", spd_channels)
        for key, variable in variables.items()
    }


def resnet_map(model: keras.Model) -> dict[str, Entry]:
    """Returns `{PyTorch name: Entry}` for a ResNet of this library.

    The authors' stages are `conv2_x` to `conv5_x`. The residual branch of a block is a Sequential
    with numbered layers: convolution, (space-to-depth,) batch norm, (ReLU,) and so on.
    """
    entries: dict[str, Entry] = {}
    names = {layer.name for layer in model.layers}

    def add_conv(prefix: str, name: str, after_spd: bool = False) -> None:
        layer = model.get_layer(name)
        entry = conv_entry(layer)
        channels = entry.variable.shape[2] if after_spd else 0
        entries[f"{prefix}.weight"] = dataclasses.replace(entry, spd_channels=channels)

    def add_batch_norm(prefix: str, name: str, after_spd: bool = False) -> None:
        layer = model.get_layer(name)
        channels = layer.gamma.shape[0] if after_spd else 0
        entries.update(batch_norm_entries(prefix, layer, channels))

    spd_stem = "stem_silu" in names
    if not spd_stem and model.get_layer("stem_conv").strides != (1, 1):
        raise ValueError("The authors' strided network has a `stem_stride` of 1.")
    add_conv("conv1.conv.conv" if spd_stem else "conv1.0", "stem_conv", after_spd=spd_stem)
    add_batch_norm("conv1.conv.bn" if spd_stem else "conv1.1", "stem_bn")

    for name in _blocks(names):
        stage, block = map(int, re.findall(r"\d+", name))
        prefix = f"conv{stage + 1}_x.{block - 1}"
        spd = f"{name}_spd" in names
        shrinking = 2 if f"{name}_conv3" in names else 1
        position, index = 0, 1
        while f"{name}_conv{index}" in names:
            branch = f"{prefix}.residual_function"
            add_conv(
                f"{branch}.{position}",
                f"{name}_conv{index}",
                after_spd=spd and index == shrinking + 1,
            )
            here = spd and index == shrinking
            position += 2 if here else 1
            add_batch_norm(f"{branch}.{position}", f"{name}_bn{index}", after_spd=here)
            position += 2  # the batch norm and its ReLU
            index += 1
        if f"{name}_shortcut_conv" in names:
            layer = model.get_layer(f"{name}_shortcut_conv")
            add_conv(f"{prefix}.shortcut.0", layer.name, after_spd=hasattr(layer, "space_to_depth"))
            add_batch_norm(f"{prefix}.shortcut.1", f"{name}_shortcut_bn")

    if "logits" in names:
        layer = model.get_layer("logits")
        entries["fc.weight"] = Entry(layer.kernel, "dense")
        entries["fc.bias"] = Entry(layer.bias, "vector")
    return entries


def _blocks(layer_names: Iterable[str]) -> list[str]:
    """Returns the names of the residual blocks in order, `stage1_block1` first."""
    matches = (re.match(r"stage\d+_block\d+(?=_out$)", name) for name in layer_names)
    return sorted(
        (match.group() for match in matches if match),
        key=lambda name: [int(number) for number in re.findall(r"\d+", name)],
    )


@dataclasses.dataclass(frozen=True)
class Identity:
    """The constructor call that a state dict fits.

    Args:
        constructor: Name in `keras_spd.applications`.
        options: Arguments of the call.
    """

    constructor: str
    options: dict[str, Any]

    def __str__(self) -> str:
        options = ", ".join(f"{name}={json.dumps(value)}" for name, value in self.options.items())
        return f"keras_spd.applications.{self.constructor}({options})"


def identify_resnet(state_dict: Mapping[str, Array]) -> Identity | None:
    """Returns the `Identity` of a ResNet state dict of the authors' code, or `None`.

    The tensors decide, not the name of the file: the authors' `resnet18_spd` is a ResNet50-SPD.
    """
    kernel = state_dict.get("conv2_x.0.residual_function.0.weight")
    classifier = state_dict.get("fc.bias")
    if kernel is None or kernel.ndim != 4 or classifier is None:
        return None
    bottleneck = kernel.shape[-1] == 1
    blocks = tuple(
        len({key.split(".")[1] for key in state_dict if key.startswith(f"conv{stage}_x.")})
        for stage in (2, 3, 4, 5)
    )
    depths = {(variant.bottleneck, variant.blocks): depth for depth, variant in RESNETS.items()}
    depth = depths.get((bottleneck, blocks))
    if depth is None:
        return None
    options: dict[str, Any] = {"classes": classifier.shape[0]}
    if "conv1.conv.conv.weight" not in state_dict:
        options["downsampling"] = "strided"
    return Identity(f"ResNet{depth}SPD", options)
