"""Reads PyTorch's files without PyTorch and without executing anything in them.

A checkpoint is a pickle, and a pickle is a program that can call anything it names. This reader
allows the names that tensors need. Modules of PyTorch and of the authors become inert records. Any
other name raises an error.
"""

import collections
import dataclasses
import io
import pathlib
import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from keras_spd import files
from keras_spd.typing import Array

_DTYPES = {
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
# Classes in checkpoints that we do not need: they become inert records.
_INERT_PACKAGES = ("torch.nn.modules.", "models.", "utils.")
_INERT = {
    "_codecs.encode",
    "argparse.Namespace",
    "datetime.datetime",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",  # of Python 3.13
    "pathlib._local.WindowsPath",
    "torch.Size",
    "torch.device",
    "torch.float16",
    "torch.float32",
}
_PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined,unused-ignore]
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_MODULES = 20_000
# Keys under which training scripts save weights; the first one found is used.
_WEIGHTS_KEYS = ("ema", "model", "state_dict", "model_state_dict", "net")


def read_torch(path: pathlib.Path) -> tuple[dict[str, Array], tuple[str, ...] | None]:
    """Reads a state dict, a module or a checkpoint from a file written by `torch.save`.

    Args:
        path: Path of the file, in the zip format (PyTorch 1.6 and later) or the legacy format.

    Returns:
        State dict of NumPy arrays, with floats as float32; and the class names, or `None`.

    Raises:
        ValueError: If the file is damaged, has another format, or names anything else to call.
    """
    try:
        if zipfile.is_zipfile(path):
            root, storages = _read_zip(path)
        elif path.read_bytes()[:4] == b"PK\x03\x04":  # a truncated zip file
            raise EOFError  # a damaged file
        else:
            root, storages = _read_legacy(path)
        weights = _find_weights(root)
        arrays = _to_arrays(_gather(weights), storages)
        return arrays, _class_names(weights)
    except _Refused as error:
        raise ValueError(f"{path} {error}") from None
    except Exception as error:  # a hostile pickle can raise anything
        damage = files.describe_damage(path)
        raise ValueError(f"{path} is not a readable PyTorch file: {damage}") from error


class _Refused(Exception):
    """The file cannot be read. The message completes a sentence that starts with the path."""


class _Record:
    """An object whose class is not imported. It holds state and has no behaviour."""

    state: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _check_keys(keys: Iterable[Any]) -> None:
    # Hashing nested tuples visits every leaf: 30 levels of pairs take 2**30 steps.
    if not all(isinstance(key, (str, bytes, int, float, type(None), _Record)) for key in keys):
        raise _Refused("was not read: it has keys that are neither text nor numbers.")


def _ordered_dict(items: Collection[tuple[Any, Any]] = ()) -> collections.OrderedDict[Any, Any]:
    _check_keys([key for key, _ in items])
    return collections.OrderedDict(items)


def _set(items: Collection[Any] = ()) -> set[Any]:
    _check_keys(items)
    return set(items)


class _Unpickler(_PythonUnpickler):
    """The unpickler in Python, not in C: it can check keys before they are hashed."""

    dispatch: dict[int, Any] = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.dtypes: dict[str, str] = {}  # of storages, by key

    def _load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def _load_setitems(self) -> None:
        _check_keys(self.stack[::2])  # since the mark: keys and values in turn
        super().load_setitems()

    def _load_items(self) -> None:
        if isinstance(self.metastack[-1][-1], set):
            _check_keys(self.stack)
        super().load_additems()

    def _load_frozenset(self) -> None:
        _check_keys(self.stack)
        super().load_frozenset()

    dispatch[pickle.SETITEM[0]] = _load_setitem
    dispatch[pickle.SETITEMS[0]] = _load_setitems
    dispatch[pickle.ADDITEMS[0]] = _load_items
    dispatch[pickle.FROZENSET[0]] = _load_frozenset

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return _ordered_dict
        if full in ("builtins.set", "__builtin__.set"):
            return _set
        if full in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
            return self._rebuild_tensor
        if full == "torch._utils._rebuild_parameter":
            return self._rebuild_parameter
        if module == "torch" and name in _DTYPES:
            return type(name, (_Record,), {"dtype": _DTYPES[name]})
        if full in _INERT or f"{module}.".startswith(_INERT_PACKAGES):
            return type(name, (_Record,), {})  # a new class, safe to modify
        if module.partition(".")[0] == "ultralytics":
            raise _Refused(
                "is a checkpoint of YOLOv8 or later; only those of YOLOv5 are read. Export it to "
                "ONNX or TFLite with Ultralytics: `keras_spd.Predictor` runs that file."
            )
        raise _Refused(
            f"was not read: it names `{full}`, which weights do not need. Reading it would execute "
            "code. Do not load this file with PyTorch either, unless you trust its source."
        )

    def persistent_load(self, saved_id: tuple[Any, ...]) -> Any:
        if saved_id[0] == "module":  # before PyTorch 1.6: (class, source file, source)
            return saved_id[1]
        kind, storage_type, key, _, size = saved_id[:5]
        if kind != "storage" or any(view is not None for view in saved_id[5:]):
            raise _Refused("was not read: it refers to something that is not a storage.")
        if not isinstance(key, (str, int)):
            raise EOFError  # a damaged file
        self.dtypes[str(key)] = storage_type.dtype
        return _Storage(str(key), storage_type.dtype, int(size))

    @staticmethod
    def _rebuild_tensor(
        storage: _Storage, offset: int, shape: Iterable[int], strides: Iterable[int], *_: Any
    ) -> _Tensor:
        return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))

    @staticmethod
    def _rebuild_parameter(tensor: _Tensor, *_: Any) -> _Tensor:
        return tensor


def _unpickle(file: io.BytesIO) -> tuple[Any, dict[str, str]]:
    """Reads one pickle. Returns the object, and the dtypes of its storages by key."""
    start, size = file.tell(), len(file.getbuffer())
    for opcode, argument, _ in pickletools.genops(file):
        # Python would allocate a memo of that size.
        if opcode.name.endswith("PUT") and (argument or 0) > size:
            raise _Refused("was not read: its pickle asks for more memory than it can need.")
    file.seek(start)
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.dtypes


def _read_zip(path: pathlib.Path) -> tuple[Any, dict[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise _Refused("is a zip file, but not one that `torch.save` wrote: no data.pkl in it.")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise _Refused("is a TorchScript program. Pass the checkpoint that it was made from.")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise _Refused("was not read: it is compressed, which `torch.save` never does.")
        if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
            raise _Refused(
                "was not read: its entries overlap, so it unpacks to more than its size."
            )
        byteorder = f"{folder}byteorder"
        if byteorder in members and archive.read(byteorder) != b"little":
            raise _Refused("was not read: it was written on a big-endian machine.")
        root, dtypes = _unpickle(io.BytesIO(archive.read(pickles[0])))
        storages = {key: archive.read(f"{folder}data/{key}") for key in dtypes}
    return root, storages


def _read_legacy(path: pathlib.Path) -> tuple[Any, dict[str, bytes]]:
    """Reads the legacy format: five pickles, then the bytes of the storages.

    The pickles are magic number, protocol version, system information, object and storage keys.
    """
    if tarfile.is_tarfile(path):
        raise _Refused(
            "is in the tar format of PyTorch 0.x, which is not read. Save it again with a newer "
            "PyTorch."
        )
    file = io.BytesIO(path.read_bytes())
    if _unpickle(file)[0] != _LEGACY_MAGIC:
        raise _Refused("is a pickle, but not one that `torch.save` wrote.")
    _unpickle(file), _unpickle(file)  # protocol version, system information
    (root, dtypes), (keys, _) = _unpickle(file), _unpickle(file)
    storages = {}
    for key in map(str, keys):
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(max(count, 0) * np.dtype(dtypes[key]).itemsize)
    return root, storages


def _find_weights(root: Any) -> Any:
    if isinstance(root, dict):
        for key in _WEIGHTS_KEYS:
            value = dict.get(root, key)
            if isinstance(value, (dict, _Record)):
                return value
    return root


def _gather(weights: Any) -> dict[str, _Tensor]:
    """Returns the tensors of a state dict or a module, by name."""
    if not isinstance(weights, _Record):
        if not isinstance(weights, dict) or not all(
            isinstance(name, str) for name in dict.keys(weights)
        ):
            raise _Refused("holds no weights: neither a state dict nor a module.")
        tensors = {k: value for k, value in dict.items(weights) if isinstance(value, _Tensor)}
    else:
        tensors = {}
        pending, seen = [("", weights)], 0
        while pending:
            prefix, module = pending.pop()
            seen += 1
            if seen > _MOST_MODULES:
                raise _Refused("was not read: a module in it contains itself.")
            for kind in ("_parameters", "_buffers"):
                for name, value in module.state[kind].items():
                    if isinstance(value, _Tensor):
                        tensors[f"{prefix}{name}"] = value
            for name, child in module.state["_modules"].items():
                if child is not None:
                    pending.append((f"{prefix}{name}.", child))
    if not tensors:
        raise _Refused("holds no tensors.")
    return tensors


def _to_arrays(tensors: Mapping[str, _Tensor], storages: Mapping[str, bytes]) -> dict[str, Array]:
    total = sum(int(np.prod(tensor.shape, dtype=object)) for tensor in tensors.values())
    used = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    held = sum(len(storages[key]) // np.dtype(dtype).itemsize for key, dtype in used.items())
    if total > 2 * held:  # a few may share storage
        raise _Refused("was not read: its tensors are larger than their stored data.")
    return {name: _to_array(tensor, storages) for name, tensor in tensors.items()}


def _to_array(tensor: _Tensor, storages: Mapping[str, bytes]) -> Array:
    dtype = np.dtype(tensor.storage.dtype)
    stored = np.frombuffer(storages[tensor.storage.key], dtype)
    last = sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides, strict=True))
    empty = 0 in tensor.shape
    if min((tensor.offset, *tensor.shape, *tensor.strides)) < 0 or (
        not empty and tensor.offset + last >= len(stored)
    ):
        raise _Refused("is broken: a tensor reaches beyond its stored data.")
    if empty:
        return np.zeros(tensor.shape, "float32")
    strides = [step * dtype.itemsize for step in tensor.strides]
    array = np.lib.stride_tricks.as_strided(stored[tensor.offset :], tensor.shape, strides)
    if dtype == "<u2":  # bfloat16 is the upper half of a float32
        return (array.astype("uint32") << 16).view("float32")
    return array.astype("float32") if dtype.kind == "f" else array.copy()


def _class_names(weights: Any) -> tuple[str, ...] | None:
    names = weights.state.get("names") if isinstance(weights, _Record) else None
    if isinstance(names, dict):
        names = [names[index] for index in range(len(names))]
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None
