"""Time and memory of exported models, each in a process of its own, in turns."""

import dataclasses
import multiprocessing
import pathlib
import time

import numpy as np

_WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a model file costs on this machine.

    Args:
        file: Its path.
        format: `"keras"`, `"saved_model"`, `"tflite"` or `"onnx"`.
        size: Bytes on disk.
        batch_size: Images of a call.
        image_size: Their height and width.
        median: Seconds of a call; half of the calls took less.
        p95: Seconds that 95 % of the calls stayed below.
        memory: Bytes that its process had resident at most, beyond those of Python and the
            libraries that were imported before the model was loaded.
        parameters: Integer, of a `.keras` file; `None` for others.
        multiply_adds: Those for one image, of a `.keras` file.
    """

    file: str
    format: str
    size: int
    batch_size: int
    image_size: tuple[int, int]
    median: float
    p95: float
    memory: int
    parameters: int | None = None
    multiply_adds: int | None = None

    @property
    def images_per_second(self):
        """Images of the median call, by its time."""
        return self.batch_size / self.median


def measure_files(files, *, image_size=None, batch_size=1, repeats=30, threads=2):
    """Times models of several formats in one run, taking turns.

    Each is loaded in a process of its own, so that memory is its own and no runtime sees another's
    threads; the processes take turns call by call, so that what slows the machine down for a
    while slows all of them.

    Args:
        files: Paths of `.keras`, `.tflite` and `.onnx` files and of SavedModel folders.
        image_size: `(height, width)` for models that take any; by default the size they were
            trained at.
        batch_size: Integer, for models that take any.
        repeats: Integer, calls of each that count.
        threads: Integer, CPU threads of each.

    Returns:
        List of `Measurement`, in the order of `files`.

    Raises:
        ValueError: If a file cannot be loaded or run; it names the file.

    Example:

    >>> for row in keras_spd.benchmark.measure_files(["model.keras", "model.tflite"]):
    ...     print(row.file, row.median)
    """
    for file in files:
        if not pathlib.Path(file).exists():
            raise ValueError(f"There is no file or folder {file}.")
    context = multiprocessing.get_context("spawn")
    workers = []
    try:
        for file in files:
            ours, theirs = context.Pipe()
            arguments = (theirs, str(file), image_size, batch_size, threads)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            workers.append((process, ours))
            _ask(file, ours)  # loaded, one after another
        seconds: list[list[float]] = [[] for _ in workers]
        for _ in range(repeats):
            for times, file, (_, pipe) in zip(seconds, files, workers, strict=True):
                pipe.send("run")
                times.append(_ask(file, pipe))
        rows = []
        for times, file, (_, pipe) in zip(seconds, files, workers, strict=True):
            pipe.send("stop")
            median, p95 = np.percentile(times, [50, 95])
            rows.append(Measurement(median=float(median), p95=float(p95), **_ask(file, pipe)))
        return rows
    finally:
        for process, _ in workers:
            process.terminate()


def _ask(file, pipe):
    try:
        answer = pipe.recv()
    except EOFError:
        raise ValueError(f"{file}: the process that ran it died; out of memory?") from None
    if isinstance(answer, Exception):
        raise ValueError(f"{file}: {answer}") from answer
    return answer


def _work(pipe, file, image_size, batch_size, threads):
    """Loads a model, runs it when told, and at last says what it took."""
    try:
        before = _peak_memory()
        path = pathlib.Path(file)
        kind = "saved_model" if path.is_dir() else path.suffix[1:]
        if kind not in _LOADERS:
            raise ValueError("it must be a .keras, .tflite or .onnx file or a SavedModel folder")
        run, shape, facts = _LOADERS[kind](path, image_size, batch_size, threads)
        images = np.random.default_rng(0).uniform(0, 255, shape)
        for _ in range(_WARM_UP):
            run(images)
        pipe.send("ready")
        while pipe.recv() == "run":
            start = time.perf_counter()
            run(images)
            pipe.send(time.perf_counter() - start)
        parts = path.rglob("*") if path.is_dir() else [path]
        pipe.send(
            {
                "file": file,
                "format": kind,
                "size": sum(part.stat().st_size for part in parts if part.is_file()),
                "batch_size": shape[0],
                "image_size": tuple(shape[1:3]),
                "memory": _peak_memory() - before,
                **facts,
            }
        )
    except Exception as error:  # handed to the parent, which names the file
        pipe.send(ValueError(f"{type(error).__name__}: {error}"))


def _peak_memory():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limit_tensorflow(threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    return tf


def _load_keras(path, image_size, batch_size, threads):
    import keras

    if keras.backend.backend() == "tensorflow":
        _limit_tensorflow(threads)
    import keras_spd
    from keras_spd.detection.detector import Detector
    from keras_spd.image_model import find_info

    model = keras_spd.predict.load_model(path)
    network = model.network if isinstance(model, Detector) else model
    fixed = None if None in network.input_shape[1:3] else network.input_shape[1:3]
    info = find_info(model)
    size = fixed or image_size or (info and info.image_size) or (640, 640)
    channels = network.input_shape[-1]
    facts = {
        "parameters": model.count_params(),
        "multiply_adds": _count_multiply_adds(network, size),
    }
    return lambda images: model.predict_on_batch(images), (batch_size, *size, channels), facts


def _count_multiply_adds(network, size):
    import keras

    from keras_spd.surgery import graph
    from keras_spd.surgery.cost import count_multiply_adds

    inputs = keras.Input((*size, network.input_shape[-1]))
    try:
        return count_multiply_adds(graph.rebuild(network, inputs=inputs))
    except ValueError:  # nested models of unknown size
        return None


def _load_saved_model(path, image_size, batch_size, threads):
    import json

    tf = _limit_tensorflow(threads)
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    ((name, spec),) = serve.structured_input_signature[1].items()
    record = path / "assets.extra" / "keras_spd.json"
    own = json.loads(record.read_text())["image_size"] if record.is_file() else (640, 640)
    sides = image_size or own
    shape = [side or asked for side, asked in zip(spec.shape, (batch_size, *sides, 3), strict=True)]

    def run(images):
        outputs = serve(**{name: tf.constant(images, spec.dtype)})
        return {key: value.numpy() for key, value in outputs.items()}

    return run, tuple(shape), {}


def _load_tflite(path, image_size, batch_size, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    signatures = {}
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        ((argument, details),) = runner.get_input_details().items()
        shape = tuple(int(side) for side in details["shape"])
        signatures[shape] = runner, argument, details["dtype"]
    # The file's sizes are fixed: the one that comes closest to what was asked for.
    asked = (batch_size, *(image_size or next(iter(signatures))[1:3]))
    shape = max(signatures, key=lambda shape: (shape[1:3] == asked[1:], shape[0] == asked[0]))
    runner, argument, dtype = signatures[shape]
    return lambda images: runner(**{argument: images.astype(dtype)}), shape, {}


def _load_onnx(path, image_size, batch_size, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    [taken] = session.get_inputs()
    asked = (batch_size, *(image_size or (640, 640)), 3)
    shape = [s if isinstance(s, int) else a for s, a in zip(taken.shape, asked, strict=True)]

    def run(images):
        return session.run(None, {taken.name: images.astype("float32")})

    return run, tuple(shape), {}


_LOADERS = {
    "keras": _load_keras,
    "saved_model": _load_saved_model,
    "tflite": _load_tflite,
    "onnx": _load_onnx,
}
