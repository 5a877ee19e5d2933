"""Merges several TFLite models into one file with several signatures."""

from collections.abc import Hashable
from typing import Any

from keras_spd.export.metadata import read_flatbuffer, write_flatbuffer


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
