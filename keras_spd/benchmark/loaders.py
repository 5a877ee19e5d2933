"""Loads models of several formats as functions of images."""

import pathlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

# A function that runs a batch of images, the shape of the batch, and numbers about the model.
_Loaded = tuple[Callable[[np.ndarray], Any], tuple[int, ...], dict[str, int | None]]


def is_channels_first(shape: Sequence[Any]) -> bool:
    """Returns whether a shape of four sides is `(batch, channels, height, width)`."""
    return shape[1] in (1, 3) and shape[3] not in (1, 3)


def _input_shape(
    known: Sequence[Any], image_size: tuple[int, int] | None, batch_size: int
) -> tuple[int, ...]:
    """Returns a model's input shape; unknown sizes are replaced with those asked for."""
    if len(known) != 4:
        raise ValueError(f"its input must be a batch of images. It has the shape {tuple(known)}.")
    height, width = image_size or (640, 640)
    asked = (batch_size, height, width, 3)
    if is_channels_first(known):
        asked = (batch_size, 3, height, width)
    pairs = zip(known, asked, strict=True)
    return tuple(side if isinstance(side, int) and side > 0 else other for side, other in pairs)


def _only(inputs: Sequence[Any]) -> Any:
    """Returns the only input of a model, or raises a `ValueError`."""
    if len(inputs) != 1:
        raise ValueError(f"it must have one input, a batch of images. It has {len(inputs)}.")
    return inputs[0]


def _limit_tensorflow(threads: int) -> ModuleType:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _load_keras(
    path: pathlib.Path, image_size: tuple[int, int] | None, batch_size: int, threads: int
) -> _Loaded:
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        _limit_tensorflow(threads)
    elif backend == "torch":
        import torch

        torch.set_num_threads(threads)
    import keras_spd
    from keras_spd.detection.detector import Detector
    from keras_spd.image_model import find_info

    model = keras_spd.predict.load_model(path)
    network = model.network if isinstance(model, Detector) else model
    _only(network.inputs)
    fixed = None if None in network.input_shape[1:3] else network.input_shape[1:3]
    info = find_info(model)
    size = fixed or image_size or (info and info.image_size) or (640, 640)
    channels = network.input_shape[-1]
    facts = {
        "parameters": model.count_params(),
        "multiply_adds": _count_multiply_adds(network, size),
    }

    normalize = None  # as exported files do inside
    if info and info.preprocessing.is_known and not info.preprocessing.takes_pixels:
        normalize = info.preprocessing.normalize

    def run(images: np.ndarray) -> Any:
        images = images.astype("float32", copy=False)
        return model.predict_on_batch(normalize(images) if normalize else images)

    return run, (batch_size, *size, channels), facts


def _count_multiply_adds(network: Any, size: tuple[int, int]) -> int | None:
    from keras_spd.surgery.cost import count_multiply_adds

    try:
        return count_multiply_adds(network, size)
    except ValueError:  # nested models of unknown size
        return None


def _load_saved_model(
    path: pathlib.Path, image_size: tuple[int, int] | None, batch_size: int, threads: int
) -> _Loaded:
    import json

    tf = _limit_tensorflow(threads)
    signatures = tf.saved_model.load(str(path)).signatures
    if "serving_default" not in signatures:
        raise ValueError(f"it must have the signature serving_default. It has {[*signatures]}.")
    serve = signatures["serving_default"]
    name, spec = _only([*serve.structured_input_signature[1].items()])
    record = path / "assets.extra" / "keras_spd.json"
    own = json.loads(record.read_text())["image_size"] if record.is_file() else (640, 640)
    shape = _input_shape(spec.shape.as_list(), image_size or own, batch_size)
    dtype = spec.dtype.as_numpy_dtype

    def run(images: np.ndarray) -> Any:
        outputs = serve(**{name: tf.constant(images.astype(dtype, copy=False))})
        return {key: value.numpy() for key, value in outputs.items()}

    return run, shape, {}


def _load_tflite(
    path: pathlib.Path, image_size: tuple[int, int] | None, batch_size: int, threads: int
) -> _Loaded:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    if not interpreter.get_signature_list():
        return _load_subgraph(interpreter, image_size, batch_size)
    signatures = {}
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        argument, details = _only([*runner.get_input_details().items()])
        shape = _input_shape(details["shape_signature"].tolist(), image_size, batch_size)
        signatures[shape] = runner, argument, details["dtype"]
    # Most files have fixed sizes. Prefer the image size that was asked for, then the batch size.
    asked = (batch_size, *(image_size or next(iter(signatures))[1:3]))
    shape = max(signatures, key=lambda shape: (shape[1:3] == asked[1:], shape[0] == asked[0]))
    runner, argument, dtype = signatures[shape]
    return lambda images: runner(**{argument: images.astype(dtype, copy=False)}), shape, {}


def _load_subgraph(
    interpreter: Any, image_size: tuple[int, int] | None, batch_size: int
) -> _Loaded:
    """Loads a file without signatures, as other tools write them."""
    taken = _only(interpreter.get_input_details())
    outputs = [entry["index"] for entry in interpreter.get_output_details()]
    shape = _input_shape(taken["shape_signature"].tolist(), image_size, batch_size)
    if shape != tuple(taken["shape"]):
        interpreter.resize_tensor_input(taken["index"], shape)
        interpreter.allocate_tensors()

    def run(images: np.ndarray) -> Any:
        interpreter.set_tensor(taken["index"], images.astype(taken["dtype"], copy=False))
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run, shape, {}


def _load_onnx(
    path: pathlib.Path, image_size: tuple[int, int] | None, batch_size: int, threads: int
) -> _Loaded:
    import onnxruntime

    from keras_spd.export.onnx_runtime import DTYPES, recorded_size

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = _only(session.get_inputs())
    own = recorded_size(session.get_modelmeta().custom_metadata_map)
    shape = _input_shape(taken.shape, image_size or own, batch_size)
    dtype = DTYPES.get(taken.type)
    if dtype is None:
        raise ValueError(f"its input must be of numbers. It is of {taken.type}.")

    def run(images: np.ndarray) -> Any:
        return session.run(None, {taken.name: images.astype(dtype, copy=False)})

    return run, shape, {}


LOADERS: dict[str, Callable[..., _Loaded]] = {
    **dict.fromkeys(("keras", "pt", "pth", "safetensors"), _load_keras),
    "saved_model": _load_saved_model,
    "tflite": _load_tflite,
    "onnx": _load_onnx,
}
# The library for each kind of file; Keras for all others. Imported before memory is measured.
LIBRARIES = {
    "saved_model": "tensorflow",
    "tflite": "ai_edge_litert.interpreter",
    "onnx": "onnxruntime",
}
