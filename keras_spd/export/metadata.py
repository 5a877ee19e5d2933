"""Reads and writes TFLite files: operators, tensors and metadata about the model."""

import ast
import io
import json
import zipfile
import zlib
from types import ModuleType
from typing import Any

_RECORD = "keras_spd.json"
_MOST = 2**20  # bytes of a foreign record
# Raised for damaged archives and arbitrary text.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, OSError, IndexError, ValueError, SyntaxError,
    NotImplementedError, RuntimeError, RecursionError, MemoryError,
)  # fmt: skip


def schema() -> ModuleType:
    """Returns the module that parses and serialises the TFLite format."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ImportError("TFLite files need `pip install ai-edge-litert`.") from error
    return schema_py_generated


def read_flatbuffer(content: bytes) -> Any:
    """Parses the bytes of a TFLite file into a `ModelT` of its schema."""
    module = schema()
    return module.ModelT.InitFromObj(module.Model.GetRootAs(content, 0))


def write_flatbuffer(model: Any) -> bytes:
    """Serialises a `ModelT` into the bytes of a TFLite file."""
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def foreign_operators(content: bytes) -> list[str]:
    """Returns the names of custom operators, which the stock runtime lacks."""
    custom = schema().BuiltinOperator.CUSTOM
    return [
        (code.customCode or b"?").decode()
        for code in read_flatbuffer(content).operatorCodes
        if max(code.builtinCode, code.deprecatedBuiltinCode) == custom
    ]


def add_metadata(content: bytes, record: dict[str, Any]) -> bytes:
    """Adds a record to a TFLite file; `read_metadata` reads it back.

    The record is in a ZIP archive after the model, like the associated files of other TFLite
    files, so a device without this library can unzip `labels.txt` (one class name per line) and
    `keras_spd.json` (the record).

    Args:
        content: Bytes of a TFLite file.
        record: Dictionary that JSON can hold.

    Returns:
        Bytes of the new TFLite file.
    """
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        if record.get("class_names"):
            archive.writestr(zipfile.ZipInfo("labels.txt"), "\n".join(record["class_names"]) + "\n")
        archive.writestr(zipfile.ZipInfo(_RECORD), json.dumps(record))
    return file.getvalue()


def read_metadata(content: bytes) -> dict[str, Any] | None:
    """Returns the record that `export_tflite` wrote into a file, or `None` if there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return json.loads(archive.read(_RECORD))
    except (KeyError, *_UNREADABLE):
        return None


def read_foreign_metadata(content: bytes) -> dict[str, Any]:
    """Returns the record that Ultralytics' exporters append to a TFLite file.

    The file is also a ZIP archive, and its first member holds a dictionary with `names`, `task`,
    `stride` and more: as JSON (`metadata.json`), before 2025 and in YOLOv5 as a Python literal
    (`temp_meta.txt`, `meta.txt`). Nothing in it is executed.

    Args:
        content: Bytes of a TFLite file.

    Returns:
        Dictionary, empty if there is no such record or it cannot be read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            first = archive.infolist()[0]
            if first.file_size > _MOST:
                return {}
            record = parse(archive.read(first).decode())
    except _UNREADABLE:
        return {}
    return record if isinstance(record, dict) else {}


def parse(text: str) -> Any:
    """Returns the value of JSON or of a Python literal, or `text` if it is neither."""
    try:
        return json.loads(text)
    except _UNREADABLE:
        pass
    try:
        return ast.literal_eval(text) if len(text) <= _MOST else text
    except _UNREADABLE:
        return text
