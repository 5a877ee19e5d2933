"""Predicts many images with Ray Data, on this machine or a cluster; writes Parquet files."""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from PIL import Image

from keras_spd.apps.object_stores import is_address, read_image
from keras_spd.files import write_json
from keras_spd.images.read import ImageError
from keras_spd.predict.classifier import Classifier
from keras_spd.predict.files import load_predictor
from keras_spd.predict.predictor import Predictor
from keras_spd.predict.results import Classification, Detections
from keras_spd.weights import find_named

_log = logging.getLogger(__name__)
_RECORD = "_run.json"  # readers of Parquet folders skip names with an underscore
_IMAGES_IN_A_FILE = 256  # at most: a crash loses an unfinished file of each worker
_THREADS = 4  # per worker, at most


@dataclasses.dataclass(frozen=True)
class RayResults:
    """The outcome of `predict_with_ray`.

    Args:
        folder: Path of the Parquet files.
        predicted: Number of images processed by this run, including those that cannot be read.
        known: Number of images skipped because they already had results.
        problems: Number of images, over all runs, that could not be read; see the column `error`.
    """

    folder: pathlib.Path
    predicted: int
    known: int
    problems: int

    def summary(self) -> str:
        """Returns the counts of this run and where the results are, as a line of text."""
        return (
            f"{self.predicted} images predicted, {self.known} skipped (already done). "
            f"The Parquet files are in {self.folder}/"
        )


def predict_with_ray(
    weights: str | os.PathLike,
    images: Iterable[str | os.PathLike],
    output: str | os.PathLike,
    *,
    address: str | None = None,
    workers: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 16,
    **options: Any,
) -> RayResults:
    """Predicts images in Ray processes, and resumes where an earlier run stopped.

    Results of different models or options never mix: the output folder records them (`_run.json`:
    a digest of the weights, image size, thresholds, tiles), and others are refused. Images are
    identified by path, so a changed image is not predicted again.

    Args:
        weights, image_size, batch_size, **options: As in `keras_spd.predict.load_predictor`. With
            `tile`, each process holds one image at a time.
        images: Paths, or addresses that fsspec reads, such as `s3://bucket/1.jpg`. On a cluster,
            every machine must have the images, `weights` and `output` under the same paths, and
            this library. The processes read images as large as `PIL.Image.MAX_IMAGE_PIXELS` allows
            in the calling one.
        output: Path of a folder. Its folder `detections` (of a classifier, `classes`) gets Parquet
            files with a row for each image: `image` (the absolute path, or the address), `error`
            (`None` if it was read), and `detections` or `classes`, as `to_json` of the results.
            Images that have a row there are skipped.
        address: Address of a running Ray cluster, such as `"auto"` or `"ray://head:10001"`; `None`
            for this machine. Ignored if Ray is already initialised.
        workers: Number of processes with the model; by default one for each GPU, or for four CPUs.

    Returns:
        `RayResults`.

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If the model cannot be loaded, `output` holds results of other weights or
            options, or there is no cluster at the address.

    Example:

    >>> results = predict_with_ray("bccd", sorted(pathlib.Path("slides").glob("*.png")), "out")
    >>> pandas.read_parquet(results.folder)
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError('`--engine ray` needs `pip install "keras_spd[ray]"`.') from error
    options |= {"image_size": image_size, "batch_size": batch_size}
    is_path = os.path.exists(weights) and not find_named(weights)  # as in `load_model`
    weights = str(pathlib.Path(weights).absolute()) if is_path else str(weights)
    digest = _digest(weights)
    predictor = load_predictor(weights, **options)  # raises here if the weights cannot be used
    folder = pathlib.Path(output).absolute() / _kind(predictor)
    folder.mkdir(parents=True, exist_ok=True)
    _check_record(folder, {"weights": digest, **_settings(predictor)})
    known = set(_column(folder, "image"))
    paths = dict.fromkeys(
        str(path) if is_address(path) else os.path.abspath(path) for path in images
    )
    new = [path for path in paths if path not in known]
    if new:
        _connect(ray, address)
        step = 1 if options.get("tile") is not None else batch_size
        arguments = (weights, digest, options, Image.MAX_IMAGE_PIXELS)
        _write_rows(new, folder, arguments, step, workers)
    problems = sum(error is not None for error in _column(folder, "error"))
    return RayResults(folder, len(new), len(paths) - len(new), problems)


def _write_rows(
    paths: list[str], folder: pathlib.Path, arguments: tuple, step: int, workers: int | None
) -> None:
    """Predicts images in Ray's workers, `step` at a time. Each worker writes its own files."""
    import ray
    import ray.data

    resources = ray.cluster_resources()
    gpus, cpus = (int(resources.get(kind, 0)) for kind in ("GPU", "CPU"))
    workers = min(workers or gpus or max(cpus // _THREADS, 1), len(paths))
    threads = str(min(max(cpus // workers, 1), _THREADS))
    # About four blocks per worker, each of at least one batch.
    size = min(max(len(paths) // (4 * workers), step), _IMAGES_IN_A_FILE)
    rows = ray.data.from_items(
        [{"image": path} for path in paths], override_num_blocks=-(-len(paths) // size)
    ).map_batches(
        _Worker,
        fn_constructor_args=arguments,
        batch_size=step,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=1 if gpus else 0,
        runtime_env={"env_vars": {"TF_NUM_INTRAOP_THREADS": threads}},
    )
    # The workers may hold all CPUs, so writing must not request one.
    rows.write_parquet(str(folder), ray_remote_args={"num_cpus": 0})


def _digest(weights: str) -> str:
    """Returns the SHA-256 of a file, or of shipped weights with this name; or a Hub's address."""
    if weights.startswith("hf:"):
        return weights
    if preset := find_named(weights):
        return preset.sha256
    if not os.path.isfile(weights):
        return ""  # `load_predictor` raises the error
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _settings(predictor: Predictor | Classifier) -> dict[str, Any]:
    """Returns the settings that the results depend on, apart from weights and images."""
    found: dict[str, Any] = {
        "image_size": predictor.image_size,
        "max_value": predictor.max_value,
    }
    if isinstance(predictor, Predictor):
        found |= dataclasses.asdict(predictor.decoder)
        found |= {"one_class_each": not predictor.multi_label, "tile": predictor.tile}
        if predictor.tile is not None:
            found |= {"overlap": predictor.overlap, "max_in_image": predictor.max_detections}
    else:
        found["top"] = predictor.top
    return json.loads(json.dumps(found))


def _check_record(folder: pathlib.Path, record: dict[str, Any]) -> None:
    """Records weights and settings in a new folder; in an existing one, checks that they match."""
    file = folder / _RECORD
    if file.is_file():
        try:
            noted = dict(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(
                f"{file} is damaged, so it is unknown which model made the results in {folder}. "
                "Pass another `--output`, or remove the folder."
            ) from None
        names = [name for name in noted | record if noted.get(name) != record.get(name)]
        if names:
            differences = ", ".join(
                f"{name} {_shown(noted.get(name))}, now {_shown(record.get(name))}"
                for name in names
            )
            raise ValueError(
                f"{folder} holds results of other weights or options: {differences}. Pass another "
                "`--output`, or remove the folder to predict all images again."
            )
    elif any(folder.glob("*.parquet")):
        raise ValueError(
            f"{folder} holds results of unknown weights and options: there is no "
            f"{_RECORD}. Pass another `--output`, or remove the folder."
        )
    else:
        write_json(file, record)


def _shown(value: Any) -> str:
    """Returns a value of the record as text, a digest by its first digits."""
    if not isinstance(value, str):
        return json.dumps(value)
    return value if value.startswith("hf:") else f"{value[:12]}..."


def _connect(ray: ModuleType, address: str | None) -> None:
    if ray.is_initialized():
        return
    local = {} if address else {"include_dashboard": False}
    try:
        ray.init(address or "local", log_to_driver=False, **local)
    except (ConnectionError, RuntimeError) as error:
        problem = f"There is no Ray cluster at {address}" if address else "Ray does not start"
        raise ValueError(f"{problem}: {error}") from error


def _column(folder: pathlib.Path, name: str) -> list:
    """Reads a column of all Parquet files of a folder; removes files that were never finished."""
    import pyarrow
    from pyarrow import parquet

    values: list = []
    for file in sorted(folder.glob("*.parquet")):
        try:
            values += parquet.read_table(file, columns=[name])[name].to_pylist()
        except pyarrow.ArrowInvalid:
            _log.warning("%s is incomplete; its images are predicted again.", file)
            file.unlink()
    return values


def _kind(predictor: Predictor | Classifier) -> str:
    return "detections" if isinstance(predictor, Predictor) else "classes"


class _Worker:
    """A process with the model: rows with paths in, rows with results out."""

    def __init__(
        self, weights: str, digest: str, options: dict[str, Any], max_pixels: int | None
    ) -> None:
        import pyarrow

        Image.MAX_IMAGE_PIXELS = max_pixels
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if _digest(weights) != digest:
            raise ValueError(f"{weights} is a different file on this machine of the cluster.")
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

    def __call__(self, batch: Any) -> Any:
        import pyarrow

        rows, pictures = [], []
        for path in batch["image"].to_pylist():
            row = {"image": path, "error": None, self.name: None}
            try:
                pictures.append((row, read_image(path, self.predictor.max_value)))
            except ImageError as error:
                row["error"] = str(error)
            rows.append(row)
        found: Sequence[Detections | Classification] = self.predictor(
            [picture for _, picture in pictures]
        )
        for (row, _), result in zip(pictures, found, strict=True):
            row[self.name] = result.to_json()
        return pyarrow.Table.from_pylist(rows, schema=self.schema)
