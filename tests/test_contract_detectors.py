"""A detector and its exported files see the same picture in any kind of image."""

import keras
import numpy as np
import pictures
import pytest
from PIL import Image
from tiny import CAMERA_CELLS, one_layer_detector
from tiny import CAMERA_SIZE as SIZE

from keras_spd import export
from keras_spd.explain.network_input import prepare as explain_input
from keras_spd.export.exported_models import load_exported
from keras_spd.images.geometry import letterbox
from keras_spd.predict import Predictor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="files are written with TensorFlow"
    ),
]
MAX_VALUE = 4095


def rows(boxes, confidence, classes):
    """Detections as rows of numbers of about the same size."""
    return np.column_stack([boxes, 100 * confidence, 100 * classes])


def decoded(outputs, index, fit=None):
    """The same of a detection dictionary; `fit` moves boxes into the image."""
    count = int(outputs["num_detections"][index])
    assert count == np.prod(CAMERA_CELLS)
    boxes, confidence, classes = (
        np.asarray(outputs[name][index][:count]) for name in ("boxes", "confidence", "classes")
    )
    return rows(boxes if fit is None else fit.to_image(boxes), confidence, classes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The detector, and the paths of its files by format."""
    folder, model = tmp_path_factory.mktemp("camera"), one_layer_detector(max_value=MAX_VALUE)
    model.save(folder / "camera.keras")
    return model, {
        "keras": folder / "camera.keras",
        "tflite": export.export_tflite(model, folder / "camera.tflite"),
        "onnx": export.export_onnx(model, folder / "camera.onnx"),
        "served": export.export_saved_model(model, folder / "served"),
    }


def given(folder):
    """Yields a name, an image in each form that it can have, and its pixels."""
    yield from pictures.objects(MAX_VALUE)
    for name, content, pixels in (*pictures.files(), *pictures.deep_files(MAX_VALUE)):
        path = folder / name
        path.write_bytes(content)
        for form in (content, path, str(path), Image.open(path)):
            yield f"{name} as {type(form).__name__}", form, pixels


def test_every_way_to_a_box_sees_the_same_picture(files, tmp_path, graphs):
    model, paths = files
    ways = {
        name: Predictor(path, multi_label=True)
        for name, path in (("Keras", paths["keras"]), ("TFLite", load_exported(paths["tflite"])))
    }
    shares = []
    for name, image, pixels in given(tmp_path):
        canvas, fit = letterbox(pixels, SIZE)
        batch = canvas[None].astype("float32") / 127.5 - 1
        expected = decoded(model.predict_on_batch(batch), 0, fit)
        expected = expected[(expected[:, 2:4] > expected[:, :2]).all(axis=1)]  # not in gray bars
        shares.append(len(expected) / np.prod(CAMERA_CELLS))
        for way, predictor in ways.items():
            [found] = predictor([image])
            np.testing.assert_allclose(
                rows(found.boxes, found.confidence, found.classes),
                expected,
                atol=0.01,
                err_msg=f"{way}: {name}",
            )
        np.testing.assert_allclose(
            explain_input(model, image).batch, batch, atol=1e-5, err_msg=f"explain: {name}"
        )
    assert np.mean(shares) > 0.5


def test_files_that_others_run_see_the_same_picture(files, graphs):
    """ONNX files and SavedModels take pixels; a SavedModel also takes JPEG and PNG files.

    TensorFlow resizes as Pillow does but for a level of a pixel, a fifth of a pixel of a box.
    """
    import onnxruntime
    import tensorflow as tf

    model, paths = files
    session = onnxruntime.InferenceSession(paths["onnx"])
    names = [output.name for output in session.get_outputs()]
    serve = tf.saved_model.load(str(paths["served"])).signatures
    contents, canvases, expected, fits = [], [], [], []
    for name, content, pixels in (*pictures.files(), *pictures.deep_files(MAX_VALUE)):
        canvas, fit = letterbox(pixels, SIZE)
        canvas = canvas[None].astype("float32")
        row = decoded(model.predict_on_batch(canvas / 127.5 - 1), 0, fit)
        outputs = dict(zip(names, session.run(None, {"images": canvas}), strict=True))
        np.testing.assert_allclose(decoded(outputs, 0, fit), row, atol=0.01, err_msg=name)
        if name.endswith(".tiff"):
            with pytest.raises(tf.errors.InvalidArgumentError, match="must be JPEG or PNG"):
                serve["encoded"](contents=tf.constant([content]))
        else:
            contents.append(content)
        canvases.append(canvas[0])
        expected.append((name, row))
        fits.append(fit)
    by_pixels = serve["serving_default"](images=tf.constant(np.stack(canvases)))
    by_content = serve["encoded"](contents=tf.constant(contents))
    place = 0
    for index, (name, row) in enumerate(expected):
        found = decoded(by_pixels, index, fits[index])
        np.testing.assert_allclose(found, row, atol=0.01, err_msg=name)
        if not name.endswith(".tiff"):
            found = decoded(by_content, place)
            np.testing.assert_allclose(found, row, atol=0.2, err_msg=name)
            place += 1


def test_it_tells_the_pictures_apart(files, graphs):
    """Otherwise the tests above would prove nothing: other pictures have other boxes."""
    model, _ = files
    for name, _, pixels in (*pictures.files(), *pictures.deep_files(MAX_VALUE)):
        others = {
            "mirrored": pixels[:, ::-1],
            "upside down": pixels[::-1],
            "darker": pixels // 2,
            "blue and red swapped": pixels[..., ::-1],
        }
        canvases = [
            letterbox(np.ascontiguousarray(one), SIZE) for one in (pixels, *others.values())
        ]
        outputs = model.predict_on_batch(
            np.stack([canvas for canvas, _ in canvases]).astype("float32") / 127.5 - 1
        )
        row = decoded(outputs, 0, canvases[0][1])
        for index, (change, other) in enumerate(others.items(), start=1):
            if min(pixels.shape[:2]) > 1 and np.abs(other.astype(int) - pixels).max() > 30:
                apart = np.abs(decoded(outputs, index, canvases[index][1]) - row).max()
                assert apart > 0.5, (name, change)


def test_every_way_refuses_with_the_same_words(files, tmp_path):
    import tensorflow as tf

    model, paths = files
    ways = [
        Predictor(paths["keras"]),
        Predictor(load_exported(paths["tflite"])),
        lambda images: explain_input(model, images[0]),
    ]
    encoded = tf.saved_model.load(str(paths["served"])).signatures["encoded"]
    high = np.full((4, 5), MAX_VALUE + 1, "uint16")
    words = f"values up to {MAX_VALUE + 1}, above max_value={MAX_VALUE}"
    Image.fromarray(high).save(tmp_path / "high.png")
    content = (tmp_path / "high.png").read_bytes()
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        encoded(contents=tf.constant([content]))
    refused = [(high, words), (Image.fromarray(high), words), (content, words)]
    refused += [(tmp_path / "high.png", words), (tmp_path / "none.png", "there is no such file")]
    refused += [
        (image, "uint8 or uint16 array of shape")
        for image in (np.zeros((4, 5, 2), "uint8"), np.zeros((4, 5), "int64"), 3)
    ]
    refused += [
        (Image.fromarray(np.full((4, 5), value, "float32")), words)
        for value, words in ((-1, "negative values"), (np.nan, "NaN or infinite"))
    ]
    for image, words in refused:
        for way in ways:
            with pytest.raises(ValueError, match=words):
                way([image])
