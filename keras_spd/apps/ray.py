"""Prediction of many images with Ray Data: on this machine, or on a cluster; results as Parquet."""

import dataclasses
import logging
import os
import pathlib

from keras_spd.images.read import ImageError, to_rgb
from keras_spd.predict.files import load_predictor
from keras_spd.predict.predictor import Predictor

_log = logging.getLogger(__name__)
_IMAGES_IN_A_FILE = 256  # at most; what a crash may lose, by worker
_THREADS = 4  # of a worker


@dataclasses.dataclass(frozen=True)
class RayResults:
    """What `predict_with_ray` has done.

    Args:
        folder: Path of the Parquet files.
        predicted: Integer, images of this run.
        known: Integer, images whose results were there before.
        problems: Integer, images of all runs that could not be read; `error` says why.
    """

    folder: pathlib.Path
    predicted: int
    known: int
    problems: int


def predict_with_ray(
    weights,
    images,
    output,
    *,
    address=None,
    workers=None,
    image_size=None,
    batch_size=16,
    **options,
):
    """Predicts images on the processes of Ray, and goes on where an earlier run has stopped.

    Args:
        weights, image_size, batch_size, **options: As in `keras_spd.predict.load_predictor`.
        images: List of paths. On a cluster, every machine must have the images, `weights` and
            `output` under the same paths, and this library.
        output: Path of a folder. Its folder `detections` (of a classifier, `classes`) gets Parquet
            files with a row for each image: `image` (the absolute path), `error` (`None` where it
            was read), and `detections` or `classes`, as `to_json` of the results. Images that have
            a row there are not predicted again.
        address: Address of a running Ray cluster, such as `"auto"` or `"ray://head:10001"`; `None`
            for this machine.
        workers: Integer, processes with the model; by default one for each GPU, or for four CPUs.

    Returns:
        `RayResults`.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If the model cannot be loaded, or there is no cluster at the address.

    Example:

    >>> results = predict_with_ray("bccd", sorted(pathlib.Path("slides").glob("*.png")), "out")
    >>> pandas.read_parquet(results.folder)
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError('`--engine ray` needs `pip install "keras_spd[ray]"`.') from error
    options |= {"image_size": image_size, "batch_size": batch_size}
    weights = str(pathlib.Path(weights).absolute()) if os.path.exists(weights) else str(weights)
    name = _kind(load_predictor(weights, **options))  # what is wrong with it is said here
    folder = pathlib.Path(output).absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    known = set(_column(folder, "image"))
    paths = dict.fromkeys(os.path.abspath(path) for path in images)
    new = [path for path in paths if path not in known]
    if new:
        _connect(ray, address)
        resources = ray.cluster_resources()
        gpus, cpus = (int(resources.get(kind, 0)) for kind in ("GPU", "CPU"))
        workers = min(workers or gpus or max(cpus // _THREADS, 1), len(new))
        threads = str(min(max(cpus // workers, 1), _THREADS))
        # Enough parts for all workers, and each as long as a batch.
        size = min(max(len(new) // (4 * workers), batch_size), _IMAGES_IN_A_FILE)
        images = ray.data.from_items(
            [{"image": path} for path in new], override_num_blocks=-(-len(new) // size)
        )
        rows = images.map_batches(
            _Worker,
            fn_constructor_args=(weights, options),
            batch_size=batch_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=1 if gpus else 0,
            runtime_env={"env_vars": {"TF_NUM_INTRAOP_THREADS": threads}},
        )
        # The workers may hold all CPUs, so that writing must not ask for one.
        rows.write_parquet(str(folder), ray_remote_args={"num_cpus": 0})
    problems = sum(error is not None for error in _column(folder, "error"))
    return RayResults(folder, len(new), len(paths) - len(new), problems)


def _connect(ray, address):
    if ray.is_initialized():
        return
    local = {} if address else {"include_dashboard": False}
    try:
        ray.init(address or "local", log_to_driver=False, **local)
    except (ConnectionError, RuntimeError) as error:
        raise ValueError(f"There is no Ray cluster at {address}: {error}") from error


def _column(folder, name):
    """Reads a column of all Parquet files of a folder; removes files that were never finished."""
    import pyarrow
    from pyarrow import parquet

    values = []
    for file in sorted(folder.glob("*.parquet")):
        try:
            values += parquet.read_table(file, columns=[name])[name].to_pylist()
        except pyarrow.ArrowInvalid:
            _log.warning("%s was not finished. Its images are predicted again.", file)
            file.unlink()
    return values


def _kind(predictor):
    return "detections" if isinstance(predictor, Predictor) else "classes"


class _Worker:
    """A process with the model: rows with paths in, rows with results out."""

    def __init__(self, weights, options):
        import pyarrow

        self.predictor = load_predictor(weights, **options)
        self.name = _kind(self.predictor)
        fields = [("box", pyarrow.list_(pyarrow.float32()))] if self.name == "detections" else []
        fields += [("confidence", "float32"), ("class", "int32"), ("name", "string")]
        self.schema = pyarrow.schema(
            [
                ("image", "string"),
                ("error", "string"),
                (self.name, pyarrow.list_(pyarrow.struct(fields))),
            ]
        )

    def __call__(self, batch):
        import pyarrow

        rows, pictures = [], []
        for path in batch["image"].to_pylist():
            row = {"image": path, "error": None, self.name: None}
            try:
                pictures.append((row, to_rgb(path, max_value=self.predictor.max_value)))
            except ImageError as error:
                row["error"] = str(error)
            rows.append(row)
        found = self.predictor([picture for _, picture in pictures])
        for (row, _), result in zip(pictures, found, strict=True):
            row[self.name] = result.to_json()
        return pyarrow.Table.from_pylist(rows, schema=self.schema)
