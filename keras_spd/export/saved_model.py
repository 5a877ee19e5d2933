"""Exports Keras models as TensorFlow SavedModels that take pixels, or JPEG and PNG files."""

import os
import pathlib
from typing import Any, Literal

import keras
import numpy as np

from keras_spd.boxes import convert_boxes
from keras_spd.detection.detector import Detector
from keras_spd.export import serving
from keras_spd.export.detections import BuiltinDetections
from keras_spd.export.folding import folded
from keras_spd.export.verify import Comparison, verify
from keras_spd.files import check_folder_of, whole_folder, write_json
from keras_spd.image_model import known_preprocessing
from keras_spd.images.batching import run_in_batches
from keras_spd.images.geometry import letterbox_in_graph
from keras_spd.images.read_in_graph import read_in_graph

_METADATA = pathlib.Path("assets.extra", "keras_spd.json")
_VERIFIED_AT_ONCE = 8  # images


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    image_size: int | tuple[int, int] | None = None,
    fold: bool | Literal["auto"] = "auto",
) -> pathlib.Path:
    """Writes a SavedModel with two signatures, including preprocessing, decoding and NMS.

    - `serving_default` takes float32 `images` of shape `(batch, height, width, 3)`, pixels 0..255.
    - `encoded` takes `contents`, a string tensor of JPEG or PNG files of any size. Each is read
      and resized as in prediction (`Preprocessing`): the EXIF orientation is applied, 16-bit
      images are scaled by the model's `max_value`, and images are letterboxed for a detector.
      Boxes are xyxy in pixels of the original, upright images, whatever the model's
      `bounding_box_format`, which is that of `serving_default`. Only networks that take RGB images
      have this signature.

    A detector returns `boxes`, `confidence`, `classes` and `num_detections`, with the model's
    thresholds; a classifier returns `predictions`.

    Args:
        model: `Detector`, `ImageModel` or another model whose `info` defines how images are
            normalised.
        path: Folder to write, which appears once it is complete. An existing SavedModel is
            replaced.
        image_size: `(height, width)` in pixels that files are resized to; defaults to the size
            the model was built for or trained at.
        fold: Whether to fold the network first (`keras_spd.fold`), which does not change its
            outputs. `"auto"` folds only where it was measured to help; SavedModels are folded.

    Returns:
        The path.

    Raises:
        ImportError: If TensorFlow is not installed.
        ValueError: If an argument is not as described, `model.info` does not define how images
            are normalised, or Keras does not run on TensorFlow.
        FileNotFoundError: If the folder of `path` does not exist.

    Example:

    >>> keras_spd.export.export_saved_model(model, "served")
    >>> serve = tf.saved_model.load("served").signatures["encoded"]
    >>> serve(contents=tf.constant([open("cell.png", "rb").read()]))["predictions"]
    """
    from keras_spd.export.tflite import tensorflow

    tf = tensorflow("SavedModels")
    path = pathlib.Path(path)
    check_folder_of(path)
    if path.exists() and not (path / "saved_model.pb").is_file():
        raise ValueError(f"{path} exists and is not a SavedModel. Choose another folder.")
    known_preprocessing(model)  # or an error
    model = folded(model, fold, "SavedModel")
    size, channels, network = _serving(model, image_size)
    archive = keras.export.ExportArchive()
    shape = (None, *(_sides(model)), channels)
    images = tf.TensorSpec(shape, tf.float32, name="images")
    archive.add_endpoint("serving_default", network, input_signature=[images])
    if channels == 3:
        contents = tf.TensorSpec((None,), tf.string, name="contents")
        encoded = _from_files(tf, model, network, size)
        archive.add_endpoint("encoded", encoded, input_signature=[contents])
    with whole_folder(path) as unfinished:
        archive.write_out(str(unfinished), verbose=False)
        (unfinished / _METADATA).parent.mkdir(exist_ok=True)
        write_json(unfinished / _METADATA, serving.describe(model, size))
    return path


def verify_saved_model(
    path: str | os.PathLike,
    model: keras.Model,
    images: np.ndarray,
    *,
    tolerance: float | None = None,
    agreement: float | None = None,
) -> Comparison:
    """Runs a SavedModel and its Keras model on the same images, and compares the outputs.

    Args:
        path: Folder of the SavedModel.
        model: The Keras model it was exported from.
        images, tolerance, agreement: As in `verify_tflite`.

    Returns:
        `Comparison`.

    Raises:
        ValueError: If the outputs differ by more than accepted.

    Example:

    >>> keras_spd.export.verify_saved_model("served", model, images).max_difference
    """
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]

    def run_batch(batch: np.ndarray) -> dict[str, Any]:
        outputs = serve(images=tf.constant(batch, tf.float32))
        return {key: value.numpy() for key, value in outputs.items()}

    def run(images: np.ndarray) -> dict[str, Any]:
        return run_in_batches(run_batch, np.asarray(images), [_VERIFIED_AT_ONCE])

    return verify(path, model, images, run, tolerance, agreement)


def _sides(model: keras.Model) -> tuple[int | None, int | None]:
    """Returns the height and width that `serving_default` takes; `None` for any."""
    if isinstance(model, Detector):
        return model.image_sizes[0] if model.image_sizes else (None, None)
    return model.input_shape[1:3]


def _serving(model: keras.Model, image_size: int | tuple[int, int] | None) -> Any:
    """Returns the size that files are resized to, the channels, and the serving function."""
    if not isinstance(model, Detector):
        return (
            serving.image_sides(model, image_size),
            model.input_shape[3],
            lambda images: {
                "predictions": serving.from_network(
                    model, model(serving.to_network(model, images), training=False)
                )
            },
        )
    decode = BuiltinDetections(model.decoder, model.head, model.bounding_box_format)
    return (
        serving.image_sides(model, image_size),
        3,
        lambda images: decode(model.network(serving.to_network(model, images), training=False)),
    )


def _from_files(tf: Any, model: keras.Model, network: Any, size: tuple[int, int]) -> Any:
    """Returns a function from encoded images to the outputs of `network`."""
    preprocessing = model.info.preprocessing

    def read(content: Any) -> Any:
        return read_in_graph(content, preprocessing.max_value)

    def classify(contents: Any) -> Any:
        images = tf.map_fn(
            lambda content: preprocessing.resize_in_graph(read(content), size),
            contents,
            fn_output_signature=tf.TensorSpec((*size, 3)),
        )
        return network(images)

    def detect(contents: Any) -> Any:
        kinds = tuple(map(tf.TensorSpec, ((*size, 3), (), (4,), (4,))))
        images, scale, corner, limits = tf.map_fn(
            lambda content: letterbox_in_graph(read(content), size),
            contents,
            fn_output_signature=kinds,
        )
        outputs = network(images)
        boxes = convert_boxes(outputs["boxes"], model.bounding_box_format, "xyxy", size)
        boxes = (boxes - corner[:, None]) / scale[:, None, None]
        boxes = tf.clip_by_value(boxes, 0.0, limits[:, None])
        found = outputs["classes"][..., None] >= 0
        return outputs | {"boxes": tf.where(found, boxes, -1.0)}

    return detect if isinstance(model, Detector) else classify
