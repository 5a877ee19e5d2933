"""One image, one answer: Keras, explanation and every kind of file agree."""

import dataclasses
import json

import keras
import numpy as np
import pictures
import pytest
from PIL import Image

import keras_spd
from keras_spd import export, predict
from keras_spd.applications import YOLOV5SPD, ImageModel, ModelInfo, YOLOV5SPDBackbone
from keras_spd.apps.web import build_page
from keras_spd.cli.main import app
from keras_spd.data import from_folder
from keras_spd.data.detection.boxed_image import BoxedImage
from keras_spd.data.detection.dataset import DetectionData
from keras_spd.explain.network_input import class_probabilities
from keras_spd.explain.network_input import prepare as explain_input
from keras_spd.images.geometry import letterbox
from keras_spd.predict import Predictor

SIZE = (24, 32)


def explained(model, image):
    """The probabilities that pictures of `explain` name."""
    return class_probabilities(model, explain_input(model, image))


def images(rng):
    """A photograph with edges, an image of the network's own size, a thin one and noise."""
    small = rng.integers(0, 256, (4, 5, 3), dtype="uint8")
    smooth = Image.fromarray(small).resize((60, 50), Image.Resampling.BICUBIC)
    yield np.asarray(smooth)
    for shape in ((*SIZE, 3), (1, 40, 3), (33, 7, 3)):
        yield rng.integers(0, 256, shape, dtype="uint8")


def head(x, kind):
    if kind == "softmax":
        return keras.layers.Dense(3, activation="softmax")(x)
    if kind == "sigmoid":
        return keras.layers.Dense(3, activation="sigmoid")(x)
    x = keras.layers.Dense(3)(x)
    return {
        "logits": lambda x: x,
        "ops.softmax": keras.ops.softmax,
        "Softmax": keras.layers.Softmax(),
        "Activation": keras.layers.Activation("softmax"),
        "nested": keras.Sequential([keras.Input((3,)), keras.layers.Softmax()]),
    }[kind](x)


def classifier(kind, **facts):
    """A classifier whose scores depend on the scale of its inputs."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    info = ModelInfo(class_names=("a", "b", "c"), **facts)
    return ImageModel(inputs, head(x, kind), info=info, name="small")


def expected(model, image, normalize, is_logits):
    """The answer, computed with NumPy and the bare network."""
    pixels = Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BILINEAR)
    row = model.predict(normalize(np.asarray(pixels, "float32"))[None], verbose=0)[0]
    exponents = np.exp(row - row.max())
    return exponents / exponents.sum() if is_logits else row


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
FACTS = {
    "statistics": (
        {"statistics": "imagenet"},
        lambda pixels: ((pixels / 255 - IMAGENET[0]) / IMAGENET[1]).astype("float32"),
    ),
    "range": ({"input_range": (-1, 1)}, lambda pixels: pixels / 127.5 - 1),
    "pixels": ({"input_range": (0, 255)}, lambda pixels: pixels),
}
KINDS = ("softmax", "Softmax", "Activation", "nested", "ops.softmax", "sigmoid", "logits")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "facts"),
    [*((kind, "statistics") for kind in KINDS), ("softmax", "range"), ("logits", "pixels")],
)
def test_classifiers_in_keras(kind, facts, rng):
    given, normalize = FACTS[facts]
    model = classifier(kind, **given)
    classify = predict.Classifier(model)
    for image in images(rng):
        row = expected(model, image, normalize, kind == "logits")
        [found] = classify([image])
        np.testing.assert_allclose(found.confidence, row[found.classes], atol=1e-5)
        np.testing.assert_allclose(explained(model, image), row, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="files are written with TensorFlow"
)
@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("softmax", "statistics"),
        ("logits", "statistics"),
        ("ops.softmax", "statistics"),
        ("logits", "range"),
    ],
)
def test_classifiers_in_files(kind, facts, tmp_path, rng):
    import tensorflow as tf

    given, normalize = FACTS[facts]
    model = classifier(kind, **given)
    model.save(tmp_path / "small.keras")
    file = export.export_tflite(model, tmp_path / "small.tflite")
    served = export.export_saved_model(model, tmp_path / "served")
    export.verify_tflite(file, model, rng.uniform(0, 255, (4, *SIZE, 3)))
    export.verify_saved_model(served, model, rng.uniform(0, 255, (4, *SIZE, 3)))
    loaded = [predict.load_predictor(tmp_path / name) for name in ("small.keras", "small.tflite")]
    serve = tf.saved_model.load(str(served)).signatures
    serve_pixels = serve["serving_default"]
    for image in images(rng):
        row = expected(model, image, normalize, kind == "logits")
        for classify in loaded:
            [found] = classify([image])
            np.testing.assert_allclose(found.confidence, row[found.classes], atol=1e-4)
        pixels = Image.fromarray(image).resize(SIZE[::-1], Image.Resampling.BILINEAR)
        [row_served] = serve_pixels(tf.constant([np.asarray(pixels, "float32")])).values()
        np.testing.assert_allclose(row_served[0], row, atol=1e-4)
        encoded = tf.io.encode_png(image)[None]
        [row_encoded] = serve["encoded"](contents=encoded)["predictions"].numpy()
        np.testing.assert_allclose(row_encoded, row, atol=0.02)  # TensorFlow's bilinear


def refusals(model, image, folder):
    """The error of each way for a model that does not define its inputs."""
    file = folder / "unknown.keras"
    model.save(file)
    Image.fromarray(image).save(folder / "image.png")
    ways = [
        lambda: predict.Classifier(model),
        lambda: explained(model, image),
        lambda: build_page([file]),
        lambda: YOLOV5SPD("n", classes=2, backbone=ImageModel(*pyramid(), info=ModelInfo())),
    ]
    commands = [
        ["predict", folder / "image.png", "--weights", file, "--output", folder / "predicted"],
        ["evaluate", folder, "--weights", file, "--output", folder / "evaluated"],
        ["explain", folder / "image.png", "--weights", file, "--output", folder / "explained"],
    ]
    if keras.backend.backend() == "tensorflow":
        pixels = np.zeros((1, *SIZE, 3))
        ways += [
            lambda: export.export_tflite(model, folder / "a.tflite"),
            lambda: export.export_tflite(
                model, folder / "a.tflite", quantization="int8", representative_data=pixels
            ),
            lambda: export.export_saved_model(model, folder / "served"),
            lambda: export.export_onnx(model, folder / "a.onnx"),
        ]
        commands += [["export", file]]
    ways += [
        lambda command=command: app([*map(str, command)], standalone_mode=False)
        for command in commands
    ]
    for way in ways:
        with pytest.raises(ValueError, match="does not define how its images are norm") as error:
            way()
        yield str(error.value)
    written = {path.name for path in folder.rglob("*") if path.is_file()}
    assert written == {"unknown.keras", "image.png"}


def pyramid():
    """Inputs and outputs of a network with features at 1/8, 1/16 and 1/32."""
    x = inputs = keras.Input((64, 64, 3))
    for _ in range(5):
        x = keras.layers.Conv2D(4, 3, 2, padding="same")(x)
    return inputs, x


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "unknown"])
def test_a_model_that_does_not_know_its_inputs_is_refused(kind, tmp_path, rng):
    known = classifier("softmax", statistics="imagenet")
    if kind == "plain":
        model = keras.Model(known.input, known.output, name="small")
    else:
        model = ImageModel(known.input, known.output, info=ModelInfo(), name="small")
    image = next(images(rng))
    messages = list(refusals(model, image, tmp_path))
    assert len({message.partition("`small`")[2] for message in messages} - {""}) == 1
    unknown = ImageModel(model.input, model.output, info=ModelInfo(), name="small")
    # As the message says.
    unknown.info = dataclasses.replace(unknown.info, statistics="imagenet")
    [ours], [theirs] = predict.Classifier(unknown)([image]), predict.Classifier(known)([image])
    np.testing.assert_array_equal(ours.confidence, theirs.confidence)


def test_unknown_output_kind_is_an_error(rng):
    known = classifier("softmax", statistics="imagenet")
    outputs = keras.layers.Lambda(lambda x: x)(known.output)
    model = ImageModel(known.inputs, outputs, info=known.info)
    with pytest.raises(ValueError, match="probabilities or logits.*Lambda"):
        predict.Classifier(model)
    model.info = dataclasses.replace(model.info, outputs="probabilities")
    image = next(images(rng))
    [ours], [theirs] = predict.Classifier(model)([image]), predict.Classifier(known)([image])
    np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=1e-6)


# === What a model sees ===

CAMERAS = {
    "stretched": {"statistics": "imagenet"},
    "letterboxed": {"input_range": (-1, 1), "resize": "letterbox", "max_value": 4095},
}


def camera(name):
    """A model whose outputs are what it is given, one class for each number."""
    inputs = keras.Input((*SIZE, 3))
    # As many numbers as in the image, so that files cannot do without the network.
    outputs = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs))
    return ImageModel(inputs, outputs, info=ModelInfo(outputs="probabilities", **CAMERAS[name]))


def looked_at(name, pixels):
    """What a camera is to be given for an image, in the order of its outputs."""
    picture = Image.fromarray(pixels)
    if name == "letterboxed":
        return (letterbox(picture, SIZE)[0] / 127.5 - 1).ravel()
    picture = picture.resize(SIZE[::-1], Image.Resampling.BILINEAR)
    return ((np.asarray(picture) / 255 - IMAGENET[0]) / IMAGENET[1]).ravel()


def in_order(classes):
    """The outputs of a `Classifier` by number."""
    row = np.empty(len(classes.classes))
    row[classes.classes] = classes.confidence
    return row


@pytest.fixture(scope="module", params=CAMERAS)
def cameras(request, tmp_path_factory):
    """A camera, and for each way through the library a function from an image to outputs."""
    folder, name = tmp_path_factory.mktemp("camera"), request.param
    model = camera(name)
    every = model.output_shape[1]
    in_keras = predict.Classifier(model, top=every)
    ways = {
        "Classifier": lambda image: in_order(in_keras([image])[0]),
        "explain": lambda image: explained(model, image),
    }
    if keras.backend.backend() == "tensorflow":
        file = export.export_tflite(model, folder / "camera.tflite")
        in_tflite = predict.Classifier(file, top=every)
        ways["TFLite"] = lambda image: in_order(in_tflite([image])[0])
    return name, model, ways, folder


@pytest.mark.slow
def test_every_way_sees_the_same_picture(cameras, tmp_path):
    name, model, ways, _ = cameras
    given = list(pictures.objects(model.info.max_value))
    for file, content, pixels in [*pictures.files(), *pictures.deep_files(model.info.max_value)]:
        (tmp_path / file).write_bytes(content)
        given += [(file, content, pixels), (file, tmp_path / file, pixels)]
        given.append((file, Image.open(tmp_path / file), pixels))
    for source, image, pixels in given:
        for way, see in ways.items():
            np.testing.assert_allclose(
                see(image), looked_at(name, pixels), atol=1e-4, err_msg=f"{way}: {source}"
            )


@pytest.mark.slow
def test_training_sees_the_same_picture(cameras, tmp_path):
    """So do detectors' batches, letterboxed, and `keras-spd predict`."""
    name, model, _, _ = cameras
    max_value = model.info.max_value
    (tmp_path / "images" / "a").mkdir(parents=True)
    expected, boxed = {}, []
    for file, content, pixels in [*pictures.files(), *pictures.deep_files(max_value)]:
        path = tmp_path / "images" / "a" / file
        path.write_bytes(content)
        expected[str(path)] = pixels
        none = np.zeros(0, bool)
        boxed.append(
            BoxedImage(1, file, path, pixels.shape[:2], np.zeros((0, 4)), none, none, (), max_value)
        )
    if name == "letterboxed":
        [(canvases, _)] = DetectionData(tuple(boxed), ("a",), (1,)).batches(len(boxed), SIZE)
        for canvas, pixels in zip(canvases, expected.values(), strict=True):
            row = model.info.preprocessing.normalize(np.asarray(canvas)).ravel()
            np.testing.assert_allclose(row, looked_at(name, pixels), atol=1e-4)
    resize = model.info.preprocessing.resize
    data = from_folder(tmp_path / "images", image_size=SIZE, max_value=max_value, resize=resize)
    images, _ = data.batches(len(boxed))[0]
    expected = dict(sorted(expected.items()))
    model.save(tmp_path / "model.keras")
    output = tmp_path / "predictions"
    arguments = [*expected, "--weights", tmp_path / "model.keras", "--output", output]
    app(["predict", *map(str, arguments)], standalone_mode=False)
    predicted = json.loads((output / "classes.json").read_text())
    for found, image, (path, pixels) in zip(predicted, images, expected.items(), strict=True):
        row = looked_at(name, pixels)
        batch = model.info.preprocessing.normalize(np.asarray(image))
        np.testing.assert_allclose(batch.ravel(), row, atol=1e-4, err_msg=path)
        best = [entry["confidence"] for entry in found["classes"]]
        np.testing.assert_allclose(best, np.sort(row)[::-1][: len(best)], atol=1e-4, err_msg=path)


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="files are written with TensorFlow"
)
def test_served_files_see_the_same_picture(cameras):
    """A SavedModel decodes them; ONNX files take the pixels. Resizing differs by a level or two."""
    import onnxruntime
    import tensorflow as tf

    name, model, _, folder = cameras
    served = export.export_saved_model(model, folder / "served")
    see = tf.saved_model.load(str(served)).signatures["encoded"]
    session = onnxruntime.InferenceSession(export.export_onnx(model, folder / "camera.onnx"))
    level = np.ptp(looked_at(name, np.uint8([[[0] * 3, [255] * 3]]))) / 255
    for file, content, pixels in [*pictures.files(), *pictures.deep_files(model.info.max_value)]:
        row = looked_at(name, pixels)
        batch = model.info.preprocessing.resize_image(pixels, SIZE)[None].astype("float32")
        [[by_onnx]] = session.run(None, {session.get_inputs()[0].name: batch})
        np.testing.assert_allclose(by_onnx, row, atol=1e-4, err_msg=file)
        if file.endswith(".tiff"):
            with pytest.raises(tf.errors.InvalidArgumentError, match="must be JPEG or PNG"):
                see(contents=tf.constant([content]))
        else:
            [found] = see(contents=tf.constant([content])).values()
            np.testing.assert_allclose(found[0], row, atol=2.1 * level, err_msg=file)


def test_every_way_refuses_with_the_same_words(cameras, tmp_path):
    name, model, ways, _ = cameras
    refused = {"negative values": np.full((4, 5), -1), "NaN or infinite": np.full((4, 5), np.nan)}
    if name == "letterboxed":
        refused["values up to 4096, above max_value=4095"] = np.full((4, 5), 4096, "uint16")
    for words, values in refused.items():
        picture = Image.fromarray(values.astype("uint16" if words[0] == "v" else "float32"))
        (tmp_path / "a").mkdir(exist_ok=True)
        picture.save(tmp_path / "a" / "a.tiff")
        for image in (picture, tmp_path / "a" / "a.tiff"):
            for see in ways.values():
                with pytest.raises(ValueError, match=words):
                    see(image)
        with pytest.raises(ValueError, match=words):
            from_folder(tmp_path, max_value=model.info.max_value)
    for image in (np.zeros((4, 5, 2), "uint8"), np.zeros((4, 5), "int64"), 3):
        for see in ways.values():
            with pytest.raises(ValueError, match="uint8 or uint16 array of shape"):
                see(image)


# === Kinds of models ===


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["converted", "folded"])
def test_changed_networks_say_the_same(kind, rng):
    """With their `Preprocessing`: `keras.applications`' networks know none and are given one."""
    network = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=3
    )
    info = ModelInfo(class_names=("a", "b", "c"), input_range=(-1, 1))
    with pytest.raises(ValueError, match="does not define how its images are normalised"):
        predict.Classifier(network)
    model = ImageModel(network.input, network.output, info=info)
    changed = (keras_spd.to_spd if kind == "converted" else keras_spd.fold)(model)
    assert changed.info == info
    for image in images(rng):
        [ours], [theirs] = predict.Classifier(model)([image]), predict.Classifier(changed)([image])
        np.testing.assert_allclose(theirs.confidence, ours.confidence, atol=1e-5)
        assert explained(changed, image).max() == pytest.approx(ours.confidence[0], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("on_a_backbone", [False, True])
def test_detectors_see_the_same_picture(on_a_backbone, tmp_path, thin_networks):
    options = {"levels": ("P3",)}
    if on_a_backbone:
        backbone = YOLOV5SPDBackbone("n", input_shape=(64, 96, 3), include_rescaling=False)
        backbone.info = dataclasses.replace(backbone.info, statistics="imagenet")
        options |= {"backbone": backbone, "include_rescaling": False}
    model = YOLOV5SPD("n", classes=2, input_shape=(64, 96, 3), **options)
    model.info = dataclasses.replace(model.info, max_value=4095)
    assert (model.info.statistics is not None) == on_a_backbone
    given, network = [], model.predict_on_batch
    model.predict_on_batch = lambda batch: given.append(np.asarray(batch)) or network(batch)
    predictor = Predictor(model, batch_size=1)
    for file, content, pixels in (*pictures.files(), *pictures.deep_files(4095)):
        if "2" in file or "6" in file or not file[-5].isdigit():  # some of the turned ones
            canvas = letterbox(pixels, (64, 96))[0].astype("float32")
            if on_a_backbone:
                canvas = ((canvas / 255 - IMAGENET[0]) / IMAGENET[1]).astype("float32")
            predictor([content])
            np.testing.assert_allclose(given.pop()[0], canvas, atol=1e-5, err_msg=file)
            explained = explain_input(model, content).batch[0]
            np.testing.assert_allclose(explained, canvas, atol=1e-5, err_msg=file)
