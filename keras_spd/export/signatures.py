"""Signatures of TFLite files: adding one, and merging files into one with several."""

from collections.abc import Hashable
from typing import Any

from keras_spd.export.metadata import read_flatbuffer, schema, write_flatbuffer


def add_signature(content: bytes, outputs: list[str]) -> bytes:
    """Adds a signature to a TFLite file with one input.

    Args:
        content: Bytes of a TFLite file without a signature.
        outputs: Names of the outputs, in the file's order.

    Returns:
        Bytes of a TFLite file with the signature `serving_default`, whose input is `images`.
    """
    model = read_flatbuffer(content)
    [graph] = model.subgraphs
    signature = schema().SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs = _tensor_map(["images"], graph.inputs)
    signature.outputs = _tensor_map(outputs, graph.outputs)
    model.signatureDefs = [signature]
    return write_flatbuffer(model)


def _tensor_map(names: list[str], tensors: list[int]) -> list[Any]:
    entries = []
    for name, tensor in zip(names, tensors, strict=True):
        entry = schema().TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), tensor
        entries.append(entry)
    return entries


def merge_signatures(contents: dict[str, bytes]) -> bytes:
    """Merges several TFLite files into one that stores their shared weights once.

    TensorFlow's converter can also write several signatures of one SavedModel, but it stores the
    weights again for each.

    Args:
        contents: Dictionary from signature names to the bytes of files with one signature each.

    Returns:
        Bytes of a TFLite file with all signatures.
    """
    models = {name: read_flatbuffer(content) for name, content in contents.items()}
    merged = next(iter(models.values()))
    codes, buffers = _Unique(), _Unique()
    buffers.add(b"", merged.buffers[0])  # by convention the first buffer is empty
    subgraphs: list[Any] = []
    signatures = []
    for name, model in models.items():
        first = len(subgraphs)
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                buffer = model.buffers[tensor.buffer]
                content = b"" if buffer.data is None else bytes(buffer.data)
                tensor.buffer = buffers.add(content, buffer)
            for operator in graph.operators:
                code = model.operatorCodes[operator.opcodeIndex]
                operator.opcodeIndex = codes.add(tuple(vars(code).values()), code)
                _move_calls(operator.builtinOptions, first)
        subgraphs += model.subgraphs
        [signature] = model.signatureDefs
        signature.signatureKey = name.encode()
        signature.subgraphIndex += first
        signatures.append(signature)
    merged.operatorCodes, merged.buffers = codes.values, buffers.values
    merged.subgraphs, merged.signatureDefs = subgraphs, signatures
    merged.metadata = merged.metadataBuffer = None  # the converter's, about one file only
    return write_flatbuffer(merged)


class _Unique:
    """A list of values without duplicates, and their positions by key."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.positions: dict[Hashable, int] = {}

    def add(self, key: Hashable, value: Any) -> int:
        """Appends the value if its key is new, and returns its position."""
        if key not in self.positions:
            self.positions[key] = len(self.values)
            self.values.append(value)
        return self.positions[key]


def _move_calls(options: Any, first: int) -> None:
    """Shifts the subgraph indices that control-flow operators such as `WHILE` refer to."""
    for name, value in list(vars(options).items()) if options else ():
        if name == "subgraph" or name.endswith("SubgraphIndex"):
            setattr(options, name, value + first)
