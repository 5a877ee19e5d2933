"""TFLite and ONNX files from other tools: recognised by their shapes, or refused in one line."""

import functools
import importlib.util
import json
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import keras_spd
from keras_spd import benchmark
from keras_spd.data import load_detection
from keras_spd.predict.files import load_predictor
from keras_spd.predict.loading import load_detector

pytestmark = [
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="TFLite files are written with TensorFlow"
    ),
    # TensorFlow asks for what its quantisation has not needed since 2019.
    pytest.mark.filterwarnings("ignore:Statistics for quantized inputs were expected"),
]
EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "edge_device.py"
HEIGHT, WIDTH = 64, 96
CELLS = 8 * 12 + 4 * 6 + 2 * 3
CENTRES = np.array([[24, 32], [70, 20], [71, 20], [50, 50]], "float32")  # x, y
SIDES = np.array([[16, 20], [30, 10], [30, 10], [8, 8]], "float32")
SCORES = np.array([[0.9, 0.1], [0.1, 0.8], [0.1, 0.7], [0.0, 0.2]], "float32")


def raw_rows(count, in_pixels):
    """Predictions on a grid of cells, four of them confident."""
    grid = np.random.default_rng(0).uniform(0, 1, (count, 2)) * [WIDTH, HEIGHT]
    rows = np.concatenate([grid, np.full((count, 2), 9.0), np.zeros((count, 2))], axis=1)
    rows[5:9] = np.concatenate([CENTRES, SIDES, SCORES], axis=1)
    if not in_pixels:
        rows[:, :4] /= [WIDTH, HEIGHT, WIDTH, HEIGHT]
    return rows.astype("float32")


def write_foreign(path, layout, **options):
    """Writes a file as TensorFlow's own converter does; it finds more the brighter an image is."""
    path.write_bytes(foreign(layout, **options))
    return path


@functools.cache
def foreign(layout, *, in_pixels=False, signature=False, quantize=False):
    """Returns the content of such a file."""
    import tensorflow as tf

    rows = raw_rows(3 * CELLS if layout == "v5" else CELLS, in_pixels)
    if layout == "v5":
        rows = np.insert(rows, 4, 1, axis=1)

    @tf.function(input_signature=[tf.TensorSpec((1, HEIGHT, WIDTH, 3), tf.float32)])
    def detect(images):
        bright = tf.reduce_max(images)  # 1 for a white pixel, scaled to 0..1
        boxes, scores = rows[None, :, :4], rows[None, :, 4:]
        found = tf.concat([boxes + 0 * bright, scores * bright], axis=2)
        return found if layout == "v5" else tf.transpose(found, [0, 2, 1])

    converter = tf.lite.TFLiteConverter.from_concrete_functions([detect.get_concrete_function()])
    if quantize:
        images = np.random.default_rng(0).uniform(0, 1, (8, 1, HEIGHT, WIDTH, 3)).astype("float32")
        images[:, 0, 0, 0], images[:, 0, 0, 1] = 1, 0
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    content = converter.convert()
    if not signature:
        from keras_spd.export.metadata import read_flatbuffer, write_flatbuffer

        model = read_flatbuffer(content)
        model.signatureDefs = model.metadata = None
        content = write_flatbuffer(model)
    return content


BOXES = [[16, 22, 32, 42, 0.9, 0], [55, 15, 85, 25, 0.8, 1]]


def write_onnx(path, layout, metadata=(), dynamic=False, boxes=BOXES, in_bytes=False):
    """Writes a file as Ultralytics does: channels first, pixels from 0 to 1, or bytes."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    if layout == "boxes":
        rows = np.zeros((300, 6))
        rows[: len(boxes)] = boxes
        weight = np.tile([0, 0, 0, 0, 1, 0], (300, 1))
    else:
        rows = raw_rows(3 * CELLS if layout == "v5" else CELLS, in_pixels=True)
        rows = np.insert(rows, 4, 1, axis=1) if layout == "v5" else rows
        weight = np.zeros_like(rows)
        weight[:, -2:] = 1
        if layout == "v8":
            rows, weight = rows.T, weight.T
    rows, weight = (values[None].astype("float32") for values in (rows, weight))
    # With a bright image the scores are as they are, with a black one 0.
    constants = {"kept": rows * (1 - weight), "scores": rows * weight}
    constants["white"] = np.float32(255 if in_bytes else 1)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "white"], ["pixels"]),
        helper.make_node("ReduceMax", ["pixels"], ["bright"], keepdims=0),
        helper.make_node("Mul", ["scores", "bright"], ["scaled"]),
        helper.make_node("Add", ["kept", "scaled"], ["output0"]),
    ]
    sides = ["batch", 3, "height", "width"] if dynamic else [1, 3, HEIGHT, WIDTH]
    shape = None if dynamic else rows.shape
    dtype = TensorProto.UINT8 if in_bytes else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "yolo",
        [helper.make_tensor_value_info("images", dtype, sides)],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in dict(metadata).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def device():
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("device", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_an_object_in_the_corner_is_in_pixels(tmp_path, white):
    box = [0.5, 1, 90, 62, 0.9, 0]
    file = write_onnx(tmp_path / "yolo.onnx", "boxes", {"names": "{0: 'cat'}"}, boxes=[box])
    [found] = load_predictor(file)([white])
    np.testing.assert_allclose(found.boxes, [2 * np.array(box[:4])], atol=0.02)
    command = [sys.executable, str(EXAMPLE), str(file), str(white)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert "found 1 object" in result.stdout, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["v5", "v8", "boxes"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_onnx_files(tmp_path, white, layout, dynamic, device):
    metadata = {"names": "{0: 'cat', 1: 'dog'}", "task": "detect", "imgsz": f"[{HEIGHT}, {WIDTH}]"}
    file = write_onnx(tmp_path / "yolo.onnx", layout, metadata, dynamic)
    predictor = load_predictor(file)
    [found] = predictor([white])
    expected = np.concatenate([CENTRES - SIDES / 2, CENTRES + SIDES / 2], axis=1)[:2]
    np.testing.assert_allclose(found.boxes, 2 * expected, atol=0.02)
    np.testing.assert_allclose(found.confidence, [0.9, 0.8], atol=0.01)
    assert [found.name(label) for label in found.classes] == ["cat", "dog"]
    [black] = predictor([np.zeros((HEIGHT, WIDTH, 3), "uint8")])
    assert len(black) == 0
    names, confidence, boxes = device.detect(file, Image.open(white))
    assert names == ["class 0", "class 1"]
    np.testing.assert_allclose(confidence, [0.9, 0.8], atol=0.01)
    np.testing.assert_allclose(boxes, 2 * expected, atol=0.5)


@pytest.mark.parametrize("bright", [0, 40, 255])
def test_files_that_take_bytes_get_pixels(tmp_path, bright):
    file = write_onnx(tmp_path / "yolo.onnx", "v8", in_bytes=True)
    image = np.full((HEIGHT, WIDTH, 3), bright, "uint8")
    [found] = load_predictor(file, confidence_threshold=0.1)([image])
    expected = [score * bright / 255 for score in (0.9, 0.8, 0.2)]
    assert found.confidence.tolist() == pytest.approx([s for s in expected if s >= 0.1], abs=0.01)


def test_onnx_files_that_are_not_detectors(tmp_path):
    file = write_onnx(tmp_path / "boxes.onnx", "boxes")
    with pytest.raises(ValueError, match="boxes.onnx returns boxes with class numbers, but has no"):
        load_predictor(file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="Cannot load an ONNX model from .*boxes.onnx"):
        load_predictor(file)


@pytest.fixture
def white(tmp_path):
    file = tmp_path / "white.png"
    Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white").save(file)
    return file


@pytest.mark.parametrize(
    ("layout", "options", "atol"),
    [
        ("v5", {}, 0.01),
        ("v8", {}, 0.01),
        ("v5", {"in_pixels": True}, 0.01),
        ("v8", {"signature": True}, 0.01),
        ("v8", {"quantize": True}, 1.5),
    ],
)
def test_predict(tmp_path, white, layout, options, atol):
    file = write_foreign(tmp_path / "yolo.tflite", layout, **options)
    predictor = load_predictor(file)
    [found] = predictor([white])
    expected = np.concatenate([CENTRES - SIDES / 2, CENTRES + SIDES / 2], axis=1)[:2]
    np.testing.assert_allclose(found.boxes, 2 * expected, atol=2 * atol)  # pixels of the image
    np.testing.assert_allclose(found.confidence, [0.9, 0.8], atol=0.01)
    assert found.classes.tolist() == [0, 1]
    [black] = predictor([np.zeros((HEIGHT, WIDTH, 3), "uint8")])
    assert len(black) == 0  # it looks at the image
    assert len(load_predictor(file, confidence_threshold=0.85)([white])[0]) == 1


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("metadata.json", json.dumps({"task": "detect", "names": {"0": "cat", "1": "dog"}})),
        ("temp_meta.txt", str({"task": "detect", "names": {1: "dog", 0: "cat"}})),
        ("meta.txt", str({"stride": 32, "names": ["cat", "dog"]})),
    ],
)
def test_class_names_of_ultralytics_are_read(tmp_path, white, member, text):
    file = write_foreign(tmp_path / "yolo.tflite", "v8")
    assert load_predictor(file).model.info.class_names is None
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    [found] = load_predictor(file)([white])
    assert [found.name(label) for label in found.classes] == ["cat", "dog"]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"names": ["cat"]}),
        json.dumps({"names": {"0": "cat", "2": "dog"}}),
        json.dumps({"names": 7}),
        json.dumps([1, 2]),
        "[" * 100_000,
        "__import__('os').abort()",
        "{'names': ",
        "x" * 2**21,
    ],
)
def test_other_records_give_no_names(tmp_path, text):
    file = write_foreign(tmp_path / "yolo.tflite", "v8")
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", text)
    assert load_predictor(file).model.info.class_names is None


def test_other_tasks_are_refused(tmp_path):
    file = write_foreign(tmp_path / "yolo.tflite", "v8")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("metadata.json", json.dumps({"task": "pose", "names": {"0": "person"}}))
    with pytest.raises(ValueError, match="yolo.tflite is a YOLO file for the task 'pose'"):
        load_predictor(file)


@pytest.mark.slow
def test_evaluate_and_device(tmp_path, white):
    file = write_foreign(tmp_path / "yolo.tflite", "v8")
    images = [{"id": 1, "file_name": white.name, "width": 2 * WIDTH, "height": 2 * HEIGHT}]
    truth = [
        {"image_id": 1, "id": label + 1, "category_id": label, "iscrowd": 0}
        | {"bbox": [*(2 * centre - side).tolist(), *(2 * side).tolist()]}
        | {"area": float(4 * side.prod())}
        for label, (centre, side) in enumerate(zip(CENTRES[:2], SIDES[:2], strict=True))
    ]
    categories = [{"id": 0, "name": "a"}, {"id": 1, "name": "b"}]
    (tmp_path / "labels.json").write_text(
        json.dumps({"images": images, "annotations": truth, "categories": categories})
    )
    data = load_detection(tmp_path / "labels.json", images=tmp_path)
    assert keras_spd.evaluate(load_detector(file), data).metrics["AP"] == pytest.approx(1)
    command = [sys.executable, str(EXAMPLE), str(file), str(white)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "found 2 objects: {'class 0': 1, 'class 1': 1}" in result.stdout
    assert "class 0 0.90 at [32, 44, 64, 84]" in result.stdout


def test_other_files_are_refused_in_a_line(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, HEIGHT, WIDTH, 3), tf.float32)])
    def means(images):
        return tf.reduce_mean(images, [1, 2])

    converter = tf.lite.TFLiteConverter.from_concrete_functions([means.get_concrete_function()])
    (tmp_path / "means.tflite").write_bytes(converter.convert())
    with pytest.raises(ValueError, match=r"neither a file that keras_spd exported nor a YOLO") as e:
        load_predictor(tmp_path / "means.tflite")
    assert str(e.value).endswith("It takes images of (64, 96) and returns (1, 3).")


@pytest.mark.slow
def test_benchmark_takes_them_and_skips_what_does_not_run(tmp_path, caplog, monkeypatch):
    # So that the processes that measure do not import Keras, which these files do not need.
    monkeypatch.setattr(sys, "argv", ["keras-spd"])
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    def write_onnx(name, inputs):
        node = helper.make_node("Identity", [inputs[0].name], ["out"])
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT16, None)
        graph = helper.make_graph([node], "graph", inputs, [out])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    def images(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["batch", 3, "h", "w"])

    files = [
        tmp_path / "broken.tflite",
        write_foreign(tmp_path / "yolo.tflite", "v8"),
        write_onnx("two.onnx", [images("a"), images("b")]),
        write_onnx("half.onnx", [images("a")]),
    ]
    files[0].write_bytes(b"nothing")
    with caplog.at_level("WARNING", logger="keras_spd"):
        rows = benchmark.measure_files(files, image_size=(32, 48), repeats=2, threads=1)
    assert [(row.format, row.image_size) for row in rows] == [
        ("tflite", (HEIGHT, WIDTH)),
        ("onnx", (32, 48)),
    ]
    assert "broken.tflite: " in caplog.text
    assert "two.onnx: it must have one input, a batch of images. It has 2." in caplog.text
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"notes.txt: it must be a SavedModel folder or a file"):
        benchmark.measure_files([tmp_path / "notes.txt"], repeats=1, threads=1)
