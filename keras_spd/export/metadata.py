"""What is in a TFLite file: its operators, its tensors, and what we note about the model."""

import io
import json
import zipfile

_KEY = b"keras_spd"


def schema():
    """Returns the module that reads and writes TFLite's format."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ImportError("TFLite files need `pip install ai-edge-litert`.") from error
    return schema_py_generated


def read_flatbuffer(content):
    """Returns the bytes of a file as an object of TFLite's schema, `ModelT`."""
    module = schema()
    return module.ModelT.InitFromObj(module.Model.GetRootAs(content, 0))


def write_flatbuffer(model):
    """Returns the bytes of a file from a `ModelT`."""
    import flatbuffers

    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def foreign_operators(content):
    """Returns the names of the operators that the stock runtime has not."""
    custom = schema().BuiltinOperator.CUSTOM
    return [
        (code.customCode or b"?").decode()
        for code in read_flatbuffer(content).operatorCodes
        if max(code.builtinCode, code.deprecatedBuiltinCode) == custom
    ]


def tensor_names(content):
    """Returns the names of all tensors."""
    graphs = read_flatbuffer(content).subgraphs
    return [tensor.name.decode() for graph in graphs for tensor in graph.tensors]


def add_metadata(content, record):
    """Returns the file with a record that `read_metadata` returns.

    The file is a ZIP archive too, in the way of TFLite's associated files, so that a device reads
    `labels.txt`, a class name a line, and `keras_spd.json`, the record, with what it has.
    """
    model = read_flatbuffer(content)
    buffer = schema().BufferT()
    buffer.data = list(json.dumps(record).encode())
    entry = schema().MetadataT()
    entry.name, entry.buffer = _KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    file = io.BytesIO(write_flatbuffer(model))
    with zipfile.ZipFile(file, "a") as archive:
        if record.get("class_names"):
            archive.writestr(zipfile.ZipInfo("labels.txt"), "\n".join(record["class_names"]) + "\n")
        archive.writestr(zipfile.ZipInfo("keras_spd.json"), json.dumps(record))
    return file.getvalue()


def read_metadata(content):
    """Returns the record that `export_tflite` wrote into a file, or `None`."""
    model = read_flatbuffer(content)
    for entry in model.metadata or []:
        if entry.name == _KEY:
            return json.loads(bytes(model.buffers[entry.buffer].data))
    return None
