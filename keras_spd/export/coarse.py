"""Finds the layers of an integer TFLite file that lose most to rounding."""

import os
import pathlib
import re

import numpy as np

from keras_spd.export.metadata import read_flatbuffer


def coarsest_layers(path: str | os.PathLike, image: np.ndarray, count: int = 3) -> dict[str, float]:
    """Returns the layers with the most rounding noise in their own outputs.

    A value that is rounded to steps of `s` gets noise of the size `s / sqrt(12)`. It is compared
    with the size of the layer's values (both as root mean squares) on one image, so a layer whose
    range is only wide because of a few values comes first.

    Args:
        path: Path of a TFLite file in 8 or 16 bits.
        image: Array of shape `(height, width, channels)`, pixels 0..255.
        count: The number of layers.

    Returns:
        `{name of a layer: noise as a fraction of its values}`, the largest first; empty if the
        first signature of the file does not take one image of this size.

    Example:

    >>> coarsest_layers("model_int8.tflite", image)
    {'stage2_c3_cv1_silu': 0.04, 'stem_silu': 0.03, 'head_p3': 0.02}
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    content = pathlib.Path(path).read_bytes()
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    [taken] = interpreter.get_input_details()
    if tuple(taken["shape"]) != (1, *image.shape):
        return {}
    interpreter.set_tensor(taken["index"], image[None].astype(taken["dtype"]))
    interpreter.invoke()
    graph = read_flatbuffer(content).subgraphs[0]
    noise: dict[str, float] = {}
    for index in (index for operator in graph.operators for index in operator.outputs):
        parameters = graph.tensors[index].quantization
        if parameters is None or parameters.scale is None or len(parameters.scale) != 1:
            continue
        values = interpreter.get_tensor(index).astype("float64") - int(parameters.zeroPoint[0])
        size = np.sqrt(np.mean(values**2))  # in steps
        layer = _layer(graph.tensors[index].name.decode())
        noise[layer] = max(noise.get(layer, 0.0), float(1 / np.sqrt(12) / max(size, 1e-6)))
    chosen = sorted(noise, key=lambda layer: -noise[layer])[:count]
    return {layer: noise[layer] for layer in chosen}


def _layer(tensor: str) -> str:
    """Returns the name of a layer from that of a tensor, `serve_1/network_1/layer_1/operator`."""
    parts = tensor.split(";")[0].split("/")
    return re.sub(r"_\d+$", "", parts[2] if len(parts) > 3 else parts[-1])
