"""Checkpoints as YOLOv5 v6.0 to v7.0 write them, of every size, and older ones.

Only the official nano is at hand, so others are made here: strided networks with the
statistics of data, written by PyTorch.
"""

import dataclasses
import sys
import types

import keras
import numpy as np
import pytest
import reference

from keras_spd.applications import YOLOV5SPD, load_torch_model, load_torch_weights
from keras_spd.detection.anchors import level_stride
from keras_spd.variants import YOLOV5S, YOLOV5Variant
from keras_spd.weights.maps import Entry
from keras_spd.weights.yolov5 import yolov5_map

ANCHORS = {"P3": ((4, 5), (8, 9), (9, 16)), "P4": ((20, 20),) * 3, "P5": ((60, 50),) * 3}


def trained(size, images, **options):
    """A strided network whose batch norms have the statistics of images."""
    keras.utils.set_random_seed(1)
    model = YOLOV5SPD(size, downsampling="strided", anchors=ANCHORS, **options)
    for layer in model.network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model.network(images, training=True)
    for variable in model.variables:  # what a file of float32 keeps
        variable.assign(np.float32(keras.ops.convert_to_numpy(variable)))
    return model


def to_torch(entry: Entry):
    """The inverse of `Entry.convert`, of an array without space-to-depth."""
    array = np.float32(keras.ops.convert_to_numpy(entry.variable))
    return np.transpose(array, (3, 2, 0, 1)) if entry.kind == "conv" else array


def state_dict_of(model):
    arrays = {name: to_torch(entry) for name, entry in yolov5_map(model.network).items()}
    pixels = np.array([model.anchors[level] for level in model.levels], "float32")
    strides = np.array([level_stride(level) for level in model.levels])
    arrays["model.24.anchors"] = pixels / strides[:, None, None]
    return arrays


def pickled_model(torch, arrays, names, classes):
    """A module of nested modules, of classes named as those of YOLOv5's repository."""
    root = classes["models.yolo"]()
    root.names, root.yaml = list(names), {"nc": len(names)}
    for name, array in arrays.items():
        module, tensor = root, torch.from_numpy(array)
        *parents, last = name.split(".")
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, classes["models.common"]())
            module = module._modules[parent]
        if last in ("weight", "bias"):
            module.register_parameter(last, torch.nn.Parameter(tensor))
        else:
            module.register_buffer(last, tensor)
    return root


@pytest.fixture
def float64():
    """Random networks amplify the rounding of float32."""
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(former)


def assert_equal_outputs(model, strided, images):
    raw = model(images)
    for level, theirs in strided(images).items():
        theirs = np.array(theirs)
        assert theirs.dtype == "float64"
        assert reference.relative_norm(np.array(raw[level]) - theirs, theirs) <= 1e-9


@pytest.fixture
def torch_classes(monkeypatch):
    torch = pytest.importorskip("torch", reason="PyTorch writes the files")
    classes = {}
    for module, name in (("models.yolo", "Model"), ("models.common", "Conv")):
        classes[module] = type(name, (torch.nn.Module,), {"__module__": module})
        home = types.ModuleType(module)
        setattr(home, name, classes[module])
        monkeypatch.setitem(sys.modules, module, home)
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    return torch, classes


@pytest.mark.slow
@pytest.mark.parametrize("size", ["s", "m", pytest.param("x", marks=pytest.mark.full)])
def test_a_pickled_checkpoint_of_one_class(
    size, rng, tmp_path, torch_classes, float64, monkeypatch
):
    """Of the depth of each size, with a quarter of its channels."""
    depth, width = dataclasses.astuple(YOLOV5S[size])
    monkeypatch.setitem(YOLOV5S, size, YOLOV5Variant(depth, width / 4))
    torch, classes = torch_classes
    images = rng.uniform(0, 255, (2, 64, 96, 3))
    strided = trained(size, images, classes=1, class_names=["ship"])
    model = pickled_model(torch, state_dict_of(strided), ["ship"], classes)
    torch.save({"epoch": -1, "model": model, "ema": None}, tmp_path / "best.pt")
    ways = [lambda: YOLOV5SPD(size, weights=tmp_path / "best.pt")]
    if size == "s":
        ways = [
            lambda: load_torch_model(tmp_path / "best.pt", "spd"),  # builds it as above
            lambda: load_torch_model(tmp_path / "best.pt"),
        ]
    for load in ways:
        spd = load()
        assert spd.info.class_names == ("ship",) and spd.anchors == strided.anchors
        assert_equal_outputs(spd, strided, images)
    strided.info = dataclasses.replace(strided.info, class_names=("boat",))
    with pytest.raises(ValueError, match="The file has the classes ship, the model boat. Pass"):
        load_torch_weights(strided, tmp_path / "best.pt")


@pytest.mark.slow
def test_another_number_of_anchors(rng, float64, monkeypatch):
    anchors = {level: ((4, 5), (8, 9), (9, 16), (20, 30)) for level in ANCHORS}
    monkeypatch.setattr(sys.modules[__name__], "ANCHORS", anchors)
    images = rng.uniform(0, 255, (2, 64, 64, 3))
    strided = trained("n", images, classes=2)
    model = load_torch_model(state_dict_of(strided))
    assert model.num_classes == 2 and model.anchors == strided.anchors
    assert_equal_outputs(model, strided, images)


@pytest.mark.slow
def test_a_state_dict_of_pytorch(rng, tmp_path, torch_classes, float64):
    torch, _ = torch_classes
    images = rng.uniform(0, 255, (2, 64, 64, 3))
    strided = trained("n", images, classes=3)
    tensors = {name: torch.from_numpy(array) for name, array in state_dict_of(strided).items()}
    torch.save(tensors, tmp_path / "state.pt")
    assert_equal_outputs(YOLOV5SPD("n", weights=tmp_path / "state.pt"), strided, images)


@pytest.mark.slow
def test_older_versions_are_refused_in_words(rng):
    """YOLOv5 up to v5.0 has a Focus stem, with names as in the authors' SPD network."""
    arrays = state_dict_of(YOLOV5SPD("n", downsampling="strided", classes=2))
    del arrays["model.0.conv.weight"]
    arrays["model.0.conv.conv.weight"] = np.zeros((16, 12, 3, 3), "float32")
    with pytest.raises(ValueError, match="YOLOv5 v5.0 or older.*v6.0"):
        load_torch_model(arrays)
