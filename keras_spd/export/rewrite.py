"""Optimises int8 TFLite files in ways that the converter cannot."""

import copy
from typing import Any

import numpy as np

from keras_spd.export.metadata import read_flatbuffer, schema, write_flatbuffer


def shorten_float_kernels(content: bytes) -> bytes:
    """Quantises the kernels of convolutions that stayed in float32.

    Each output channel gets its own scale, as in dynamic-range quantization. Inputs in an int8
    network are already int8, which the runtime's kernels accept; outputs stay float32. Accuracy
    hardly changes, and the convolution takes a fraction of the time.

    Args:
        content: Bytes of a TFLite file.

    Returns:
        Bytes of a TFLite file.
    """
    model = read_flatbuffer(content)
    types, operators = schema().TensorType, schema().BuiltinOperator
    scales: dict[int, np.ndarray] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode != operators.CONV_2D:
                continue
            kernel = graph.tensors[operator.inputs[1]]
            if kernel.type != types.FLOAT32:
                continue
            if kernel.buffer not in scales:  # identical kernels may share a buffer
                buffer = model.buffers[kernel.buffer]
                values = buffer.data.view("float32").reshape(kernel.shape)
                scale = np.maximum(np.abs(values).max(axis=(1, 2, 3)), 1e-12) / 127
                rounded = np.round(values / scale[:, None, None, None]).astype("int8")
                buffer.data = rounded.view("uint8").ravel()
                scales[kernel.buffer] = scale
            kernel.type = types.INT8
            kernel.quantization = _quantization(scales[kernel.buffer])
    return write_flatbuffer(model)


def take_pixels(content: bytes) -> bytes:
    """Changes the input of a file from float32 images to uint8 pixels.

    Pixels are dequantised, then quantised for the network. The runtime is fast at both, but slow
    at the single uint8-to-int8 operator that the converter would write.

    Args:
        content: Bytes of a TFLite file with one signature and one input.

    Returns:
        Bytes of a TFLite file.
    """
    model = read_flatbuffer(content)
    [graph], [signature] = model.subgraphs, model.signatureDefs
    [images] = graph.inputs
    pixels = copy.copy(graph.tensors[images])
    pixels.name, pixels.type = b"pixels", schema().TensorType.UINT8
    pixels.quantization = _quantization(np.ones(1))
    code = schema().OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema().BuiltinOperator.DEQUANTIZE
    code.version = 1
    operator = schema().OperatorT()
    operator.opcodeIndex = len(model.operatorCodes)
    operator.inputs, operator.outputs = [len(graph.tensors)], [images]
    operator.builtinOptionsType = schema().BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema().DequantizeOptionsT()
    graph.inputs = operator.inputs
    signature.inputs[0].tensorIndex = len(graph.tensors)
    model.operatorCodes.append(code)
    graph.tensors.append(pixels)
    graph.operators.insert(0, operator)
    return write_flatbuffer(model)


def _quantization(scale: np.ndarray) -> Any:
    """Returns parameters with zero point 0 and one scale for each entry of the first axis."""
    parameters = schema().QuantizationParametersT()
    parameters.scale = scale.astype("float32")
    parameters.zeroPoint = np.zeros(len(scale), "int64")
    parameters.quantizedDimension = 0
    return parameters
