"""Quantises float32 TFLite files with `litert-quantizer`."""

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_spd.export.detections import LAYER
from keras_spd.export.metadata import read_flatbuffer
from keras_spd.export.ranges import measure_ranges, silent
from keras_spd.typing import Array

_log = logging.getLogger(__name__)
# Bits of the activations, whose ranges come from calibration images.
ACTIVATION_BITS = {"int8": 8, "int16x8": 16}
QUANTIZATIONS = (None, "float16", "dynamic", *ACTIVATION_BITS)
_EVERYWHERE = ".*"
_DECODING = f"/{LAYER}"
# The last layers of every head, with and without a prefix: names of tensors contain those of
# layers. Coordinates and scores share a tensor and therefore an 8-bit step, which is too coarse.
_HEAD = r"[/_]head_p\d"
_PART = 32 * 2**20  # bytes
_WITH_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def quantize(
    content: bytes,
    quantization: str,
    samples: list[Array] | None,
    learned: dict[str, tuple[float, float]] | None = None,
) -> bytes:
    """Quantises a float32 file.

    What follows a detector's network and what computes the outputs stays in float32. With
    `"int8"`, the last convolutions of a detector have 8-bit kernels and return float32.

    Args:
        content: Bytes of a TFLite file with one signature, one input and float32 operators.
        quantization: One of `QUANTIZATIONS` except `None`.
        samples: List of arrays, the input of the file in each step of calibration; `None` if
            `quantization` needs none.
        learned: Dictionary from names of layers to ranges that replace the measured ones, as from
            `without_ranges`.

    Returns:
        Bytes of a TFLite file without metadata.

    Raises:
        ImportError: If `litert-quantizer` is not installed.
    """
    try:
        from litert_quantizer import quantizer
    except ImportError as error:
        raise ImportError("Quantised TFLite files need `pip install litert-quantizer`.") from error
    recipe = _recipe(content, quantization)
    work = quantizer.Quantizer(content, recipe.get_quantization_recipe())
    ranges = None
    if samples is not None:
        ranges = measure_ranges(content, recipe, samples, quantization == "int8")
        if learned:
            _use_learned_ranges(ranges, learned, content)
    with silent(), _large_kernels():
        found = work.quantize(ranges, enable_progress_report=False)
    return bytes(found.quantized_model)


def _recipe(content: bytes, quantization: str) -> Any:
    """Returns the rules by the names of an operator's outputs, each followed by a semicolon.

    Later rules have priority.
    """
    from litert_quantizer import qtyping, recipe_manager

    every, operator = qtyping.TFLOperationName.ALL_SUPPORTED, qtyping.TFLOperationName
    recipe = recipe_manager.RecipeManager()
    if quantization == "float16":
        for name in _WITH_KERNELS:
            recipe.add_weight_only_config(
                _EVERYWHERE,
                operator(name),
                num_bits=16,
                algorithm_key=recipe_manager.AlgorithmName.FLOAT_CASTING,
            )
    elif quantization == "dynamic":
        recipe.add_dynamic_config(_EVERYWHERE, every, num_bits=8)
    else:
        recipe.add_static_config(_EVERYWHERE, every, ACTIVATION_BITS[quantization], 8)
    [graph] = read_flatbuffer(content).subgraphs
    outputs = [re.escape(graph.tensors[index].name.decode()) for index in graph.outputs]
    in_float = [_DECODING, *(f"^{name};" for name in outputs)]
    if quantization == "int8":
        in_float.append(_HEAD)
    for scope in in_float:
        recipe.add_quantization_config(
            scope, every, algorithm_key=recipe_manager.AlgorithmName.NO_QUANTIZE
        )
    if quantization == "int8":
        for name in _WITH_KERNELS:
            recipe.add_dynamic_config(_HEAD, operator(name), num_bits=8)
    return recipe


def _use_learned_ranges(
    ranges: dict[str, Any], learned: dict[str, tuple[float, float]], content: bytes
) -> None:
    """Replaces the range of the last tensor of each layer."""
    [graph] = read_flatbuffer(content).subgraphs
    names = [graph.tensors[index].name.decode() for op in graph.operators for index in op.outputs]
    for layer, (low, high) in learned.items():
        found = [name for name in names if re.search(rf"/{re.escape(layer)}(_\d+)?/", name)]
        if not found or found[-1] not in ranges:
            _log.warning("The file has no tensor for the range of %s, which is not used.", layer)
        elif high > low:  # the range was trained
            shape = np.shape(ranges[found[-1]]["min"])
            limits = {"min": np.full(shape, low), "max": np.full(shape, high)}
            ranges[found[-1]] = {**ranges[found[-1]], **limits}


@contextlib.contextmanager
def _large_kernels() -> Iterator[None]:
    """Lets the quantizer (0.11) take kernels of more than 32 MiB, such as those of ResNet18-SPD.

    It quantises them in parts, which fails for arrays of more than two axes.
    """
    from litert_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as module

    original = module.uniform_quantize

    def by_rows(data: Array, parameters: Any, *rest: Any, **options: Any) -> Array:
        if data.ndim == 2 or data.nbytes <= _PART or parameters.quantized_dimension != 0:
            return original(data, parameters, *rest, **options)
        flat = dataclasses.replace(
            parameters,
            scale=np.reshape(parameters.scale, -1),
            zero_point=np.reshape(parameters.zero_point, -1),
        )
        rows = np.reshape(data, (len(data), -1))
        return np.reshape(original(rows, flat, *rest, **options), data.shape)

    module.uniform_quantize = by_rows
    try:
        yield
    finally:
        module.uniform_quantize = original
