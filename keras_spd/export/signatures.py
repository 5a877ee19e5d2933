"""Several TFLite models as signatures of one file."""

from collections.abc import Hashable
from typing import Any

from keras_spd.export.metadata import read_flatbuffer, write_flatbuffer


def merge_signatures(contents: dict[str, bytes]) -> bytes:
    """Merges several TFLite files into one that stores their weights once.

    TensorFlow's converter can also write several signatures of one SavedModel, but stores the
    weights again for each.

    Args:
        contents: Dictionary from the name of a signature to the bytes of a file with one.

    Returns:
        Bytes of a file with all the signatures.
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
    merged.metadata = merged.metadataBuffer = None  # the converter's notes on one of them
    return write_flatbuffer(merged)


class _Unique:
    """A list of values without duplicates, and their positions by key."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.positions: dict[Hashable, int] = {}

    def add(self, key: Hashable, value: Any) -> int:
        """Returns the position of the value with this key, which is appended if it is new."""
        if key not in self.positions:
            self.positions[key] = len(self.values)
            self.values.append(value)
        return self.positions[key]


def _move_calls(options: Any, first: int) -> None:
    """Shifts the subgraph numbers that `WHILE`, `IF` and the like refer to."""
    for name, value in list(vars(options).items()) if options else ():
        if name == "subgraph" or name.endswith("SubgraphIndex"):
            setattr(options, name, value + first)
