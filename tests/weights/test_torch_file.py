"""PyTorch files: what is read, and that no code in them is executed."""

import collections
import copy
import io
import os
import pickle
import struct
import zipfile

import keras
import numpy as np
import pytest
import reference
from conftest import find_shared

from keras_spd.applications import YOLOV5SPD, load_torch_model
from keras_spd.weights.torch_file import read_torch


def write_zip(path, pickled, storages=None, compression=zipfile.ZIP_STORED, extra=()):
    """Writes a file as `torch.save` lays it out."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        for name in extra:
            archive.writestr(name, "")
    return path


def tensor_pickle(size=4, offset=0, shape=(2, 2), strides=(2, 1), dtype="Float"):
    """Pickles `{"a": tensor}` with protocol 2, opcode by opcode."""

    def numbers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + f"ctorch\n{dtype}Storage\n".encode()
    storage += text("0") + text("cpu") + b"J" + struct.pack("<i", size) + b"tQ"
    arguments = b"(" + storage + b"J" + struct.pack("<i", offset) + numbers(shape)
    arguments += numbers(strides) + b"\x89" + b"ccollections\nOrderedDict\n)Rt"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
    return b"\x80\x02}" + text("a") + tensor + b"s."


FOUR = np.arange(4, dtype="<f4").tobytes()


def test_a_tensor(tmp_path):
    arrays, names = read_torch(write_zip(tmp_path / "a.pt", tensor_pickle(), {"0": FOUR}))
    np.testing.assert_array_equal(arrays["a"], [[0, 1], [2, 3]])
    assert names is None
    turned = tensor_pickle(strides=(1, 2))
    arrays, _ = read_torch(write_zip(tmp_path / "a.pt", turned, {"0": FOUR}))
    np.testing.assert_array_equal(arrays["a"], [[0, 2], [1, 3]])


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def hostile(tmp_path):
    """Yields pickles that would execute something, by what they would do."""
    command = f"touch {tmp_path / 'executed'}"
    yield "os.system", pickle.dumps(Call(os.system, command), 2)
    yield "os.system by protocol 4", pickle.dumps({"a": Call(os.system, command)}, 4)
    yield "eval", pickle.dumps([Call(eval, f"open({str(tmp_path / 'executed')!r}, 'w')")], 2)
    yield "getattr", b"c__builtin__\ngetattr\n(cos\nsystem\nX\x01\x00\x00\x00atR."
    yield "INST", f"(S{command!r}\nios\nsystem\n.".encode()
    yield "OBJ", f"(cos\nsystem\nS{command!r}\no.".encode()
    yield "NEWOBJ", b"\x80\x02csubprocess\nPopen\n(S'true'\nt\x81."
    yield "torch.load", b"ctorch\nload\n(S'x'\ntR."
    yield "torch.hub", b"ctorch.hub\nload\n(S'x'\ntR."
    yield "numpy.load", b"cnumpy\nload\n(S'x'\ntR."
    yield "a method of an allowed class", b"ccollections\nOrderedDict.fromkeys\n(]tR."
    yield "a package with a name like the authors'", b"cmodelsx.common\nConv\n)R."
    yield "the parent of an allowed package", b"ctorch.nn\nModule\n)R."
    yield "in a set state", pickle.dumps(collections.OrderedDict(a=Call(os.system, command)), 2)


def test_hostile_pickles_are_refused_and_not_executed(tmp_path):
    for what, pickled in hostile(tmp_path):
        file = write_zip(tmp_path / "hostile.pt", pickled)
        with pytest.raises(ValueError, match=r"hostile.pt was not read: it names `"):
            read_torch(file)
        legacy = tmp_path / "legacy.pt"
        legacy.write_bytes(pickled)
        with pytest.raises(ValueError, match="legacy.pt was not read: it names `"):
            read_torch(legacy)
        assert not (tmp_path / "executed").exists(), what


def test_a_checkpoint_of_yolov8_is_named(tmp_path):
    file = write_zip(tmp_path / "v8.pt", b"cultralytics.nn.tasks\nDetectionModel\n)R.")
    with pytest.raises(ValueError, match="v8.pt is a checkpoint of YOLOv8 or later.*ONNX or"):
        read_torch(file)


@pytest.mark.parametrize(
    ("pickled", "storages", "message"),
    [
        (tensor_pickle(shape=(2, 3), size=6), {"0": FOUR}, "reaches beyond"),
        (tensor_pickle(offset=1), {"0": FOUR}, "reaches beyond"),
        (tensor_pickle(strides=(-2, 1)), {"0": FOUR}, "reaches beyond"),
        (tensor_pickle(shape=(2**30, 2**30), strides=(0, 0)), {"0": FOUR}, "larger than their"),
        (tensor_pickle(), {}, "damaged"),
        (tensor_pickle(dtype="ComplexFloat"), {"0": FOUR}, "names `torch.ComplexFloatStorage`"),
        (b"\x80\x02}r\xf0\xff\xff\xff.", {}, "more memory"),
        (b"\x82\x01.", {}, "not a readable PyTorch file"),
        (b"\x80\x02}.", {}, "holds no tensors"),
        (b"\x80\x02K\x01.", {}, "holds no weights"),
        (b"\x80\x02" + b"(" * 100_000, {}, "not a readable PyTorch file"),
        (tensor_pickle()[:-10], {"0": FOUR}, "not a readable PyTorch file"),
        (
            b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00items]sb.",
            {},
            "holds no tensors",
        ),
        (
            # A module whose child is itself.
            b"cmodels.yolo\nModel\n)\x81q\x00}(X\x0b\x00\x00\x00_parameters}"
            b"X\x08\x00\x00\x00_buffers}X\x08\x00\x00\x00_modules}X\x01\x00\x00\x00ah\x00sub.",
            {},
            "contains itself",
        ),
    ],
)
def test_broken_pickles(tmp_path, pickled, storages, message):
    file = write_zip(tmp_path / "broken.pt", pickled, storages)
    with pytest.raises(ValueError, match=f"broken.pt .*{message}"):
        read_torch(file)


def test_keys_are_checked_before_they_are_hashed(tmp_path):
    pairs = b"K\x01" + b"2\x86" * 60  # t = (t, t), 60 times
    for pickled in (
        b"\x80\x02}" + pairs + b"K\x01s.",
        b"\x80\x02}(" + pairs + b"K\x01u.",
        b"\x80\x04\x8f(" + pairs + b"\x90.",
        b"\x80\x04(" + pairs + b"\x91.",
        b"\x80\x02c__builtin__\nset\n](" + pairs + b"e\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n](" + pairs + b"K\x01\x86e\x85R.",
    ):
        bomb = write_zip(tmp_path / "bomb.pt", pickled)
        with pytest.raises(ValueError, match="bomb.pt was not read: it has keys"):
            read_torch(bomb)


def test_a_claimed_storage_does_not_count(tmp_path):
    pickled = tensor_pickle(size=2**31 - 1, shape=(2**15, 2**16), strides=(0, 0))
    with pytest.raises(ValueError, match="larger than their stored data"):
        read_torch(write_zip(tmp_path / "claim.pt", pickled, {"0": FOUR}))


def test_overlapping_entries_are_refused(tmp_path):
    path = tmp_path / "overlap.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor_pickle())
        archive.writestr("archive/data/0", bytes(10_000))
        for number in range(1, 50):  # the same bytes under 49 more names
            member = copy.copy(archive.getinfo("archive/data/0"))
            member.filename = f"archive/data/{number}"
            archive.filelist.append(member)
    with pytest.raises(ValueError, match="overlap.pt was not read: its entries overlap"):
        read_torch(path)


def test_cut_off_files_say_so(tmp_path):
    good = write_zip(tmp_path / "good.pt", tensor_pickle(), {"0": FOUR}).read_bytes()
    cut = tmp_path / "cut.pt"
    for size in range(1, len(good), 20):
        cut.write_bytes(good[:size])
        with pytest.raises(ValueError, match=r"cut.pt .*cut off or damaged\. Download or copy"):
            read_torch(cut)


def test_a_web_page_in_place_of_a_file(tmp_path):
    page = tmp_path / "best.pt"
    page.write_text("<!DOCTYPE html>\n<title>Not Found</title>")
    with pytest.raises(ValueError, match="best.pt .*text that starts with '<!DOCTYPE html> <title"):
        read_torch(page)


def test_broken_files(tmp_path):
    good = write_zip(tmp_path / "good.pt", tensor_pickle(), {"0": FOUR}).read_bytes()
    broken = tmp_path / "broken.pt"
    flipped = bytearray(good)
    flipped[good.index(FOUR)] ^= 1
    html = b"<html>404: Not Found</html>"
    for content in (b"", html, good[: len(good) // 2], bytes(flipped), bytes(range(1, 256)) * 4):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match="broken.pt is not a readable PyTorch file"):
            read_torch(broken)
    for options, message in (
        ({"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        ({"extra": ["archive/constants.pkl"]}, "TorchScript"),
        ({"extra": ["other/data.pkl"]}, "not one that `torch.save` wrote"),
    ):
        write_zip(broken, tensor_pickle(), {"0": FOUR}, **options)
        with pytest.raises(ValueError, match=message):
            read_torch(broken)


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_pytorch_wrote(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="PyTorch writes the files")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    half = {name: value.half() for name, value in module.state_dict().items()}
    contents = {
        "module": module,
        "state dict": module.state_dict(),
        "checkpoint": {"epoch": 3, "ema": None, "model": module, "optimizer": {"state": {}}},
        "averaged": {"ema": module, "model": torch.nn.Conv2d(1, 1, 1)},
        "nested": {"state_dict": module.state_dict(), "args": None},
        "bfloat16": {name: value.bfloat16() for name, value in module.state_dict().items()},
        "half": half,
    }
    for name, content in contents.items():
        path = tmp_path / "file.pt"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        arrays, _ = read_torch(path)
        assert sorted(arrays) == sorted(module.state_dict()), name
        for key, value in module.state_dict().items():
            tolerance = 1e-2 if name in ("bfloat16", "half") else 0
            np.testing.assert_allclose(arrays[key], value.numpy(), rtol=tolerance, err_msg=name)
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"whole": shared, "part": shared[1:, ::2]}, path)
    np.testing.assert_array_equal(read_torch(path)[0]["part"], [[3, 5]])


@pytest.mark.slow
def test_the_released_format():
    file = find_shared("reference/nano_best.pt")
    state_dict, images, expected = reference.load("yolov5_spd_n")
    arrays, _ = read_torch(file)
    for name, value in state_dict.items():
        np.testing.assert_array_equal(arrays[name], value.astype("float16"), err_msg=name)
    model = load_torch_model(file)
    assert model.name == "yolov5_spd_n"
    assert model.info.class_names == tuple(f"class{number}" for number in range(80))
    assert model.anchors["P3"] == ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0))
    raw = model(images * 255)
    for level in ("P3", "P4", "P5"):
        wanted = expected[f"raw_{level.lower()}"].transpose(0, 2, 3, 1, 4)
        assert reference.relative_norm(np.array(raw[level]) - wanted, wanted) <= 2e-2  # float16

    named = YOLOV5SPD("n", weights=file, class_names=[str(number) for number in range(80)])
    assert named.info.class_names[3] == "3"  # the user's names stay


@pytest.mark.slow
def test_the_network_is_recognised(tmp_path):
    for name in ("resnet18_spd_as_released", "resnet18_strided", "yolov5_spd_s"):
        state_dict, _, _ = reference.load(name)
        model = load_torch_model(state_dict)
        expected = {
            "resnet18_spd_as_released": "resnet50_spd",
            "resnet18_strided": "resnet18_strided",
            "yolov5_spd_s": "yolov5_spd_s",
        }
        assert model.name == expected[name]
    with pytest.raises(ValueError, match="holds 1 arrays, such as a. They do not belong"):
        load_torch_model({"a": np.zeros(3)})
    keras.backend.clear_session()


def test_zip_files_of_another_kind(tmp_path):
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    (tmp_path / "arrays.pt").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match="arrays.pt is a zip file, but not one"):
        read_torch(tmp_path / "arrays.pt")
