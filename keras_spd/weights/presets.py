"""Trained weights by name.

A preset is two files that `tools/make_preset.py` writes from a run folder: a record (`.toml`) in
`presets/`, and the arrays (`.safetensors.gz`). Arrays too large for the package are downloaded; see
`download.py`.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import tomllib
from collections.abc import Iterable
from typing import Any

from keras_spd.typing import Array, Path
from keras_spd.weights.download import find_weights
from keras_spd.weights.packing import unpack
from keras_spd.weights.paths import variables_by_path

FOLDER = pathlib.Path(__file__).parent / "presets"
NO_IMAGENET = (
    "keras_spd has no ImageNet weights. Convert a network of Keras Applications, whose weights it "
    "keeps: `keras_spd.to_spd(keras.applications.ResNet50())`."
)
_FOR_DETECTORS = (
    " A detector takes it, without its top, as `backbone`. Or start from a checkpoint of YOLOv5, "
    'which was trained on COCO: `weights="yolov5n.pt"`.'
)


@dataclasses.dataclass(frozen=True)
class Preset:
    """Trained weights and where they come from.

    Args:
        name: Value for the `weights` argument.
        architecture: Name of the constructor in `keras_spd.applications`.
        options: Constructor arguments that the weights require.
        class_names: One name for each class.
        image_size: `(height, width)` the network was trained at.
        statistics: Name of the statistics that normalise the input, or `None`.
        dataset: Training dataset and, if it has one, its licence.
        command: Training command.
        scores: `{metric: value}`, measured with exactly this file.
        license: Licence of the weights.
        file: Path of the arrays in the package. If it does not exist, `read` downloads them.
        size: Size of `file` in bytes.
        sha256: SHA-256 of `file`.
        card: What else the card in `docs/zoo` says, see `tools/write_cards.py`.
    """

    name: str
    architecture: str
    options: dict[str, Any]
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    statistics: str | None
    dataset: str
    command: str
    scores: dict[str, float]
    license: str
    file: pathlib.Path
    size: int
    sha256: str
    card: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """Unique name, such as `"resnet18_spd_cifar10"`; several networks can share a `name`."""
        return self.file.name.partition(".")[0]

    @property
    def short_name(self) -> str:
        """`name` if `find_named` finds this preset by it, otherwise `full_name`."""
        return self.name if find_named(self.name) == self else self.full_name

    def __str__(self) -> str:
        options = {"weights": self.name, **self.options}
        shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
        return f"{self.architecture}({shown})"

    def read(self) -> dict[str, Array]:
        """Returns `{path of a variable: array}`.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        packaged = self.file.is_file()
        file = self.file if packaged else find_weights(self.file.name, self.sha256)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ValueError(f"The weights {file} cannot be read: {error}.") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ValueError(
                f"The weights {file} are damaged: their SHA-256 is not the one on record. "
                + ("Install keras_spd again." if packaged else "Copy the file again.")
            )
        return unpack(content)


@functools.cache
def _records() -> tuple[Preset, ...]:
    presets = []
    for path in sorted(FOLDER.glob("*.toml")):
        record = tomllib.loads(path.read_text(encoding="utf-8"))
        record["class_names"] = tuple(record["class_names"])
        record["image_size"] = tuple(record["image_size"])
        record.setdefault("statistics", None)
        presets.append(Preset(**record, file=path.with_suffix(".safetensors.gz")))
    return tuple(presets)


def list_models() -> list[Preset]:
    """Lists the shipped trained weights.

    Returns:
        List of `Preset`. `str(preset)` is the call that builds the network with the weights.

    Example:

    >>> for preset in keras_spd.list_models():
    ...     print(preset, preset.scores)
    """
    return list(_records())


def find_named(name: Path) -> Preset | None:
    """Returns the `Preset` of this name for any network, or `None`.

    Args:
        name: A full name, or a name. If several networks have it, the first in `list_models`.
    """
    return next((p for p in list_models() if str(name) in (p.name, p.full_name)), None)


def find_preset(weights: Path | None, architecture: str, **options: Any) -> Preset | None:
    """Returns the `Preset` named by a constructor's `weights` argument, or `None`.

    Args:
        weights: The argument. `None` and paths are not names of presets.
        architecture: Name of the constructor.
        **options: Constructor arguments that determine which weights fit.

    Raises:
        ValueError: If `weights` is neither a string nor a path, or no weights of that name fit the
            architecture and options.
    """
    if weights is not None and not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            "`weights` must be `None`, the name of trained weights or the path of a file. "
            f"Received: weights={weights!r}."
        )
    if weights is None or pathlib.Path(weights).suffix or len(pathlib.Path(weights).parts) > 1:
        return None  # none, or a path
    weights = os.fspath(weights)
    of_architecture = [p for p in list_models() if p.architecture == architecture]
    named = [preset for preset in of_architecture if weights in (preset.name, preset.full_name)]
    if weights == "imagenet":
        raise ValueError(NO_IMAGENET + (_FOR_DETECTORS if architecture == "YOLOV5SPD" else ""))
    if not named:
        raise ValueError(
            f"There are no weights {weights!r} for {architecture}, nor a file of that name. "
            f"Available: {', '.join(map(str, of_architecture or list_models()))}. `weights` also "
            "takes a file, such as the `model.keras` that `keras-spd train` writes."
        )
    for preset in named:
        if all(options.get(key) == value for key, value in preset.options.items()):
            return preset
    given = ", ".join(f"{key}={value!r}" for key, value in options.items())
    raise ValueError(
        f"The weights {weights!r} are for {', '.join(map(str, named))}. Received: {given}."
    )


def load_preset(layers: Iterable[Any], preset: Preset) -> None:
    """Assigns the arrays of a preset to the variables of layers.

    Args:
        layers: Keras layers. Arrays of other layers, such as a classifier, are ignored.
        preset: `Preset`.

    Raises:
        ValueError: If an array has another shape than its variable.
    """
    arrays = preset.read()
    for path, variable in variables_by_path(layers).items():
        if arrays[path].shape != variable.shape:
            raise ValueError(
                f"The weights {preset.full_name} do not fit: {path} has the shape "
                f"{tuple(variable.shape)} instead of {arrays[path].shape}. Images must have three "
                "channels."
            )
        variable.assign(arrays[path])
