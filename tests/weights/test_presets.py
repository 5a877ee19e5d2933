"""Shipped weights, as installed."""

import functools
import hashlib
import http.server
import logging
import pathlib
import shutil
import threading
import tomllib
import types

import keras
import numpy as np
import pytest
import tomli_w
from conftest import find_shared

import keras_spd
from keras_spd import predict
from keras_spd.applications import (
    YOLOV5SPD,
    ResNet18SPD,
    ResNet50SPD,
    ResNet101SPD,
    ResNetSPDBackbone,
    YOLOV5SPDBackbone,
)
from keras_spd.cli import parsing
from keras_spd.weights import presets
from keras_spd.weights.packing import pack, unpack

CIFAR10 = [preset for preset in keras_spd.list_models() if preset.name == "cifar10"]


def build(preset, **options):
    constructor = getattr(keras_spd.applications, preset.architecture)
    return constructor(weights=preset.name, **preset.options, **options)


@pytest.mark.slow
@pytest.mark.parametrize("preset", keras_spd.list_models(), ids=str)
def test_every_preset_loads(preset):
    assert preset.file.stat().st_size == preset.size
    assert preset.scores and preset.command and preset.license == "Apache-2.0"
    model = eval(f"keras_spd.applications.{preset}")  # as `keras-spd list` shows it
    assert model.name == preset.full_name.removesuffix(f"_{preset.name}")
    assert model.info.class_names == preset.class_names
    assert model.info.image_size == preset.image_size


@pytest.mark.slow
def test_the_detectors_score_is_that_of_the_shipped_file():
    file = find_shared("data/bccd/annotations/instances_test.json")
    [preset] = [preset for preset in keras_spd.list_models() if preset.name == "bccd"]
    model = build(preset)
    cells = keras_spd.data.load_detection(file, class_names=model.info.class_names)
    scores = keras_spd.evaluate(model, cells).metrics
    for name in ("AP", "AP50"):
        assert scores[name] == pytest.approx(preset.scores[name], abs=0.002)


@pytest.mark.slow
def test_the_names_of_the_defects_are_in_order():
    """A tenth of the test images is easier than all: AP 41 instead of 37. Wrong names cost 9."""
    file = find_shared("data/deeppcb/annotations/instances_test.json")
    [preset] = [preset for preset in keras_spd.list_models() if preset.name == "deeppcb"]
    model = build(preset)
    boards = keras_spd.data.load_detection(file, class_names=model.info.class_names)
    _, tenth = boards.hold_out(0.1)
    assert keras_spd.evaluate(model, tenth).metrics["AP"] > preset.scores["AP"] - 0.02


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TFDS needs TensorFlow")
@pytest.mark.parametrize("preset", CIFAR10, ids=str)
def test_the_classifiers_accuracy_is_that_of_the_shipped_file(preset):
    """On the first 2,000 test images: two standard deviations are 1.4 points."""
    folder = find_shared("data/tfds")
    model = build(preset)
    images = keras_spd.data.from_tfds("cifar10", "test[:2000]", data_dir=folder)
    preprocess = keras_spd.applications.preprocess_input
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    _, accuracy = model.evaluate(images.batches(250, preprocess=preprocess), verbose=0)
    assert accuracy == pytest.approx(preset.scores["test_accuracy"], abs=0.014)


@pytest.mark.slow
def test_a_detector_for_other_classes_keeps_all_but_the_class_outputs(caplog, rng):
    source = YOLOV5SPD("n", weights="bccd")
    with caplog.at_level(logging.WARNING):
        model = YOLOV5SPD("n", weights="bccd", classes=5)
    assert "all except the outputs of 5 of 5 classes, which are initialised" in caplog.text
    assert model.info.class_names is None and model.num_classes == 5
    images = rng.uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    ours, theirs = model(images)["P4"], source(images)["P4"]
    np.testing.assert_allclose(ours[..., :5], theirs[..., :5], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        lambda: ResNet18SPD(weights=pathlib.Path("cifar10")),
        lambda: ResNet18SPD(weights="cifar10", include_top=False),
        lambda: ResNetSPDBackbone(18, weights="cifar10"),
        lambda: YOLOV5SPD("n", weights="bccd"),
        lambda: YOLOV5SPDBackbone("n", weights="bccd"),
    ],
)
def test_weights_load_in_a_name_scope_and_beside_a_file_of_that_name(build, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cifar10", "bccd"):
        pathlib.Path(name).touch()
    keras.utils.set_random_seed(0)
    with keras.name_scope("encoder"):
        scoped = build()
    keras.utils.set_random_seed(0)
    plain = build()
    for ours, theirs in zip(scoped.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_wrong_names_and_options(tmp_path):
    with pytest.raises(ValueError, match=r"no weights 'coco' for YOLOV5SPD.*Available: YOLOV5SPD"):
        YOLOV5SPD("n", weights="coco")
    with pytest.raises(ValueError, match=r"'bccd' are for YOLOV5SPD\(.*Received: size='s"):
        YOLOV5SPD("s", weights="bccd")
    with pytest.raises(ValueError, match="no weights 'bccd' for ResNet18SPD.*Available: ResNet"):
        ResNet18SPD(weights="bccd")
    with pytest.raises(ValueError, match="'cifar10' for ResNet101SPD.*: ResNet18SPD.*takes a file"):
        ResNet101SPD(weights="cifar10")
    with pytest.raises(ValueError, match=r"to_spd\(keras.applications.ResNet50\(\)\)`.$"):
        ResNet50SPD(weights="imagenet")
    with pytest.raises(ValueError, match=r"as `backbone`.* of YOLOv5.*weights=\"yolov5n.pt\""):
        YOLOV5SPD("n", weights="imagenet")
    for load in (predict.load_model, parsing.require_weights):
        with pytest.raises(ValueError, match="keras_spd has no ImageNet weights"):
            load(pathlib.Path("imagenet"))
    with pytest.raises(ValueError, match="There is no file runs/none.keras"):
        YOLOV5SPD("n", weights="runs/none.keras")
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(ValueError, match=r"Cannot read weights from .*model.ckpt: .*`.keras`"):
        ResNet18SPD(weights=tmp_path / "model.ckpt")


@pytest.fixture
def classifier(tmp_path, monkeypatch, thin_networks):
    """A preset for a ResNet18-SPD of four classes, and the network it was packed from."""
    model = ResNet18SPD(classes=4)
    content = pack({v.path: v.numpy() for v in model.variables}, 8)
    record = {
        "name": "letters",
        "architecture": "ResNet18SPD",
        "options": {"downsampling": "spd", "shortcut": "strided"},
        "class_names": list("abcd"),
        "image_size": [32, 32],
        "statistics": "cifar10",
        "dataset": "none",
        "command": "none",
        "scores": {"test_accuracy": 0.25},
        "license": "Apache-2.0",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (tmp_path / "letters.toml").write_text(tomli_w.dumps(record))
    (tmp_path / "letters.safetensors.gz").write_bytes(content)
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    presets._records.cache_clear()
    yield model, tmp_path / "letters.safetensors.gz"
    presets._records.cache_clear()


def test_two_networks_can_share_a_name(classifier):
    _, file = classifier
    record = tomllib.loads(file.with_name("letters.toml").read_text())
    for number in (18, 34):
        other = tomli_w.dumps(record | {"name": "a", "architecture": f"ResNet{number}SPD"})
        file.with_name(f"resnet{number}_spd_a.toml").write_text(other)
    presets._records.cache_clear()
    assert presets.find_named("a").architecture == "ResNet18SPD"
    for name in ("a", "resnet18_spd_a", "resnet34_spd_a"):
        parsing.require_weights(pathlib.Path(name))
    with pytest.raises(ValueError, match="no weights of that name"):
        parsing.require_weights(pathlib.Path("b"))
    assert presets.find_named("resnet34_spd_a").architecture == "ResNet34SPD"
    assert presets.find_named("b") is None
    assert [preset.short_name for preset in presets.list_models()] == [
        "letters",
        "a",
        "resnet34_spd_a",
    ]
    options = {"downsampling": "spd", "shortcut": "strided"}
    for name in ("a", "resnet34_spd_a"):
        assert presets.find_preset(name, "ResNet34SPD", **options).architecture == "ResNet34SPD"


@pytest.mark.slow
def test_a_classifier(classifier, rng):
    source, _ = classifier
    model = ResNet18SPD(weights="letters")
    assert model.info.class_names == ("a", "b", "c", "d")
    assert model.info.statistics == keras_spd.applications.get_statistics("cifar10")
    images = rng.normal(size=(4, 32, 32, 3)).astype("float32")
    # 8 bits: close to the network it was packed from.
    wanted = source.predict(images, verbose=0)
    np.testing.assert_allclose(model.predict(images, verbose=0), wanted, atol=0.02)

    with pytest.raises(ValueError, match=r"If using `weights='letters'`.*`classes` must be 4"):
        ResNet18SPD(weights="letters", classes=10)
    features = ResNet18SPD(weights="letters", include_top=False, pooling="avg")
    assert features.info.class_names is None
    assert features.predict(images, verbose=0).shape == (4, 64)
    with pytest.raises(ValueError, match="'letters' are for ResNet18SPD"):
        ResNet18SPD(weights="letters", downsampling="strided")


def test_damaged_files(classifier):
    _, file = classifier
    content = file.read_bytes()
    for damaged in (content[:-1], b"\0" + content[1:], b""):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="letters.safetensors.gz are damaged"):
            ResNet18SPD(weights="letters")


@pytest.fixture
def elsewhere(classifier, tmp_path_factory, monkeypatch):
    """A preset whose arrays are not in the package but in a folder, and that folder."""
    cached_here = functools.partial(keras.utils.get_file, cache_dir=tmp_path_factory.mktemp("home"))
    monkeypatch.setattr(keras.utils, "get_file", cached_here)
    _, file = classifier
    folder = tmp_path_factory.mktemp("mirror")
    shutil.move(file, folder)
    return folder


@pytest.mark.slow
def test_weights_outside_the_package(elsewhere, monkeypatch):
    monkeypatch.delenv("KERAS_SPD_WEIGHTS", raising=False)
    with pytest.raises(ValueError, match="are not in the package. Set KERAS_SPD_WEIGHTS"):
        ResNet18SPD(weights="letters")
    monkeypatch.setenv("KERAS_SPD_WEIGHTS", str(elsewhere))
    assert ResNet18SPD(weights="letters").info.class_names == ("a", "b", "c", "d")
    [file] = elsewhere.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="letters.safetensors.gz are damaged.*Copy the file again"):
        ResNet18SPD(weights="letters")
    file.unlink()
    with pytest.raises(ValueError, match="no file .*letters.*KERAS_SPD_WEIGHTS must be the folder"):
        ResNet18SPD(weights="letters")


@pytest.mark.slow
def test_downloaded_weights(elsewhere, monkeypatch):
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=elsewhere)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for base in (address, f"{address}/"):  # the second time from the cache
            monkeypatch.setenv("KERAS_SPD_WEIGHTS", base)
            assert ResNet18SPD(weights="letters").info.class_names == ("a", "b", "c", "d")
        assert requests == ["/letters.safetensors.gz"]
        [cached] = keras.utils.get_file.keywords["cache_dir"].rglob("letters.safetensors.gz")
        content = cached.read_bytes()
        cached.write_bytes(content[:-1])  # a damaged file in the cache is downloaded again
        ResNet18SPD(weights="letters")
        assert len(requests) == 2 and cached.read_bytes() == content

        cached.unlink()
        [file] = elsewhere.iterdir()
        file.write_bytes(content[:-1])
        with pytest.raises(ValueError, match=r"letters.safetensors.gz is damaged, or not these"):
            ResNet18SPD(weights="letters")
        server.shutdown()
    with pytest.raises(ValueError, match=r"cannot be downloaded.*[^.]\. If this machine is"):
        ResNet18SPD(weights="letters")
    for base in ("http://[bad", "://", "s3://bucket"):
        monkeypatch.setenv("KERAS_SPD_WEIGHTS", base)
        with pytest.raises(ValueError, match=r"must be a folder or a URL.*Received: "):
            ResNet18SPD(weights="letters")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hugging Face Hub whose only repository is a folder."""
    folder = tmp_path / "hub"
    api = types.SimpleNamespace(
        create_repo=lambda repo_id, **_: types.SimpleNamespace(repo_id=repo_id),
        upload_folder=lambda folder_path, **_: shutil.copytree(folder_path, folder),
    )
    fake = types.SimpleNamespace(
        HfApi=lambda **_: api, snapshot_download=lambda repo_id, **_: str(folder)
    )
    monkeypatch.setattr("keras.src.saving.saving_lib.huggingface_hub", fake)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("network", [ResNet18SPD, functools.partial(YOLOV5SPD, "n")])
def test_models_on_the_hugging_face_hub(network, hub, rng, thin_networks):
    """`model.save("hf://USER/NAME")` fills a repository, and `load_model` loads it."""
    source = network(classes=3)
    address = "hf://someone/letters"
    source.save(address)
    assert (hub / "README.md").is_file()  # Keras' model card
    images = rng.uniform(size=(2, 64, 64, 3)).astype("float32")
    for model in (
        keras.saving.load_model(address),
        predict.load_model(address),
        predict.load_model(pathlib.Path(address)),  # of the command line
    ):
        assert type(model) is type(source) and model.info == source.info
        outputs = (keras.tree.flatten(net(images)) for net in (model, source))
        for output, expected in zip(*outputs, strict=True):
            np.testing.assert_allclose(output, expected, atol=1e-6)


def test_the_package_stays_small():
    assert sum(file.stat().st_size for file in presets.FOLDER.iterdir()) < 40e6


@pytest.mark.parametrize(("bits", "bound"), [(8, 0.5 / 127), (6, 0.5 / 31), (16, 2**-11)])
def test_packing(rng, bits, bound):
    kernel = rng.normal(size=(3, 3, 8, 5)).astype("float32") * [1, 10, 0.1, 0, 1e-3]
    vector = rng.normal(size=7).astype("float32")
    arrays = unpack(pack({"a/kernel": kernel, "b": vector}, bits))
    np.testing.assert_array_equal(arrays["b"], vector)
    error = np.abs(arrays["a/kernel"] - kernel).max(axis=(0, 1, 2))
    assert (error <= 1.01 * bound * np.abs(kernel).max(axis=(0, 1, 2)) + 1e-7).all()
    again = unpack(pack(arrays, bits))  # packing twice changes nothing
    np.testing.assert_allclose(again["a/kernel"], arrays["a/kernel"], rtol=1e-6)
    with pytest.raises(ValueError, match="`bits` must be from 4 to 8, or 16"):
        pack({"a": kernel}, 32)


def test_few_bits_take_fewer_bytes(rng):
    kernel = {"kernel": rng.normal(size=(3, 3, 64, 64)).astype("float32")}
    sizes = [len(pack(kernel, bits)) for bits in (16, 8, 7, 6)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < 0.95 * kernel["kernel"].size  # less than a byte each
