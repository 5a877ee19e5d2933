"""Ray: two workers find the same as one process, and a second run only predicts new images."""

import importlib.util
import json

import numpy as np
import pytest
from PIL import Image
from tiny import one_layer_detector, tiny_detector

import keras_spd
from keras_spd.apps import ray as app
from keras_spd.apps.ray import predict_with_ray

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason='needs `pip install "ray[data]"`'
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),  # copies its own old settings
]


@pytest.fixture
def cluster():
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def weights(tmp_path):
    """A small detector as a file."""
    tiny_detector().save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


@pytest.fixture
def images(tmp_path):
    """Ten images of noise, 80x60 pixels each."""
    random = np.random.default_rng(0)
    files = [tmp_path / f"{index}.png" for index in range(10)]
    for file in files:
        pixels = random.integers(0, 256, (6, 8, 3), dtype="uint8")
        Image.fromarray(pixels).resize((80, 60)).save(file)
    return files


@pytest.mark.slow
def test_two_workers_and_a_second_run(cluster, images, tmp_path, monkeypatch):
    from pyarrow import parquet

    files, weights = images, tmp_path / "twelve.keras"
    one_layer_detector().save(weights)
    options = {"image_size": (64, 96), "batch_size": 2, "confidence_threshold": 0.01}
    predictor = keras_spd.Predictor(weights, **options)
    expected = [found.to_json() for found in predictor(files)]
    assert sum(map(len, expected)) > 10
    files[7].write_bytes(b"broken")

    def run(images, workers=1):
        return predict_with_ray(weights, images, tmp_path / "out", workers=workers, **options)

    first = run(files[:5], workers=2)
    assert (first.predicted, first.known, first.problems) == (5, 0, 0)
    assert len(list(first.folder.glob("*.parquet"))) > 1  # a crash would lose one of them
    for file in files[:5]:
        file.unlink()  # predicted again, they would be missed
    (first.folder / "unfinished.parquet").write_bytes(b"PAR1 and no end")
    in_this_process(monkeypatch)  # another worker would only import the same again
    second = run(files)
    assert (second.predicted, second.known, second.problems) == (5, 5, 1)
    third = run(files)
    assert (third.predicted, third.known, third.problems) == (0, 10, 1)

    rows = parquet.read_table(third.folder).to_pylist()
    assert sorted(row["image"] for row in rows) == sorted(map(str, files))
    for row in rows:
        index = files.index(type(files[0])(row["image"]))
        if index == 7:
            assert row["detections"] is None and "7.png: cannot be read" in row["error"]
            continue
        assert row["error"] is None and len(row["detections"]) == len(expected[index])
        for received, found in zip(row["detections"], expected[index], strict=True):
            assert received["box"] == pytest.approx(found["box"], abs=0.1)
            assert received["confidence"] == pytest.approx(found["confidence"], abs=1e-3)
            assert (received["class"], received["name"]) == (found["class"], found["name"])


def in_this_process(monkeypatch):
    """Without Ray, which takes seconds to start: one worker here predicts all images."""
    import pyarrow
    from pyarrow import parquet

    def write_rows(paths, folder, arguments, step, workers):
        rows = app._Worker(*arguments)(pyarrow.table({"image": paths}))
        parquet.write_table(rows, folder / "0.parquet")

    monkeypatch.setattr(app, "_connect", lambda *_: None)
    monkeypatch.setattr(app, "_write_rows", write_rows)


@pytest.mark.slow
def test_results_of_different_options_never_mix(weights, images, tmp_path, monkeypatch):
    in_this_process(monkeypatch)
    options = {"image_size": 64, "confidence_threshold": 0.01}
    assert predict_with_ray(weights, images[:1], tmp_path / "out", **options).predicted == 1
    with pytest.raises(ValueError, match=r"of other weights or options: confidence_threshold 0.01"):
        changed = options | {"confidence_threshold": 0.5}
        predict_with_ray(weights, images, tmp_path / "out", **changed)
    with pytest.raises(ValueError, match="image_size .64, 64., now .96, 64.. Pass another"):
        predict_with_ray(weights, images, tmp_path / "out", **options | {"image_size": (96, 64)})


@pytest.mark.slow
def test_tiles_of_images_above_pillows_limit(weights, images, tmp_path, monkeypatch):
    from pyarrow import parquet

    in_this_process(monkeypatch)
    options = {"image_size": 64, "tile": 32, "confidence_threshold": 1e-4}
    predictor = keras_spd.Predictor(weights, **options)
    expected = [found.to_json() for found in predictor(images[:2])]
    assert sum(map(len, expected)) > 10
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    refused = predict_with_ray(weights, images[:1], tmp_path / "refused", **options)
    assert refused.problems == 1  # the workers use the settings of this process
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as `keras-spd predict --tile` does
    results = predict_with_ray(weights, images[:2], tmp_path / "out", **options)
    assert results.problems == 0
    rows = parquet.read_table(results.folder).sort_by("image").to_pylist()
    for row, found in zip(rows, expected, strict=True):
        boxes = [entry["box"] for entry in row["detections"]]
        assert np.allclose(boxes, [entry["box"] for entry in found], atol=0.1)


@pytest.mark.slow
def test_results_of_other_weights_are_refused_before_ray_starts(weights, tmp_path, monkeypatch):
    def not_reached(*_):
        raise AssertionError("Ray was started")

    monkeypatch.setattr("keras_spd.apps.ray._connect", not_reached)
    folder = tmp_path / "out" / "detections"

    def run():
        predict_with_ray(weights, [], tmp_path / "out", image_size=64)

    run()
    record = json.loads((folder / "_run.json").read_text())
    assert record["weights"] and record["image_size"] == [64, 64] and record["tile"] is None
    (folder / "_run.json").write_text(json.dumps(record | {"weights": "1" * 64}))
    with pytest.raises(ValueError, match=r"of other weights or options: weights 111111111111\."):
        run()
    (folder / "_run.json").write_text("[")
    with pytest.raises(ValueError, match=r"_run.json is damaged"):
        run()
    (folder / "_run.json").unlink()
    (folder / "0.parquet").touch()
    with pytest.raises(ValueError, match=r"of unknown weights and options"):
        run()


@pytest.mark.slow
def test_the_command(weights, images, tmp_path, monkeypatch, capsys):
    from keras_spd.cli.main import app as commands

    in_this_process(monkeypatch)
    images[1].write_bytes(b"broken")
    arguments = ["predict", *images[:2], "--weights", weights, "--image-size", "64"]
    arguments += ["--engine", "ray", "--output", tmp_path / "out", "--confidence", "0.3"]
    assert commands([*map(str, arguments)], standalone_mode=False) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("2 images predicted, 0 skipped (already done).")
    assert "1 image could not be read: see the column `error`." in shown.err
    record = json.loads((tmp_path / "out" / "detections" / "_run.json").read_text())
    assert (record["image_size"], record["confidence_threshold"]) == ([64, 64], 0.3)


def test_bad_weights_are_named_before_ray_starts(tmp_path):
    with pytest.raises(ValueError, match="Cannot load a model from none"):
        predict_with_ray("none", [tmp_path / "a.png"], tmp_path)


def test_models_on_the_hub_are_told_apart():
    first, second = (app._digest(f"hf://someone/{name}") for name in "ab")
    assert first and first != second
    assert len(app._digest("bccd")) == 64 and app._digest("bccd") != app._digest("deeppcb")


def test_a_folder_named_like_shipped_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bccd").mkdir()
    seen = []
    monkeypatch.setattr(app, "load_predictor", lambda name, **_: seen.append(name) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_with_ray("bccd", [], tmp_path / "out")
    assert seen == ["bccd"]
