"""Trained weights by name: what they are, and loading them.

Each is two files, written by `tools/make_preset.py` from a run folder: a record (`.toml`) in
`presets/` and its arrays (`.safetensors`), beside it or, if they are too large for the package,
where `download.py` finds them.
"""

import dataclasses
import functools
import hashlib
import pathlib
import tomllib
from collections.abc import Iterable
from typing import Any

from keras_spd.typing import Array, Path
from keras_spd.weights.download import find_weights
from keras_spd.weights.packing import unpack

FOLDER = pathlib.Path(__file__).parent / "presets"


@dataclasses.dataclass(frozen=True)
class Preset:
    """Trained weights and where they come from.

    Args:
        name: What `weights=` takes.
        architecture: Name of the constructor in `keras_spd.applications`.
        options: Arguments of the constructor that the weights are for.
        class_names: One name for each class.
        image_size: `(height, width)` the network was trained at.
        statistics: Name of the statistics that inputs are normalised with, or `None`.
        dataset: What it was trained on, and under which licence.
        command: The training command.
        scores: What was measured with this very file, by name.
        license: Licence of the weights.
        file: Path of the arrays in the package; `read` finds those that are not there.
        size: Bytes of `file`.
        sha256: Its SHA-256.
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

    def __str__(self) -> str:
        options = {"weights": self.name, **self.options}
        shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
        return f"{self.architecture}({shown})"

    def read(self) -> dict[str, Array]:
        """Returns the arrays by the paths of the variables.

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
        presets.append(Preset(**record, file=path.with_suffix(".safetensors")))
    return tuple(presets)


def list_models() -> list[Preset]:
    """Lists the trained weights that come with the package.

    Returns:
        List of `Preset`. `str` of one is the call that builds the network with the weights.

    Example:

    >>> for preset in keras_spd.list_models():
    ...     print(preset, preset.scores)
    """
    return list(_records())


def find_preset(weights: Path | None, architecture: str, **options: Any) -> Preset | None:
    """Returns the `Preset` that a constructor's `weights` argument names, or `None`.

    Args:
        weights: The argument: `None` and paths of existing files are no names.
        architecture: Name of the constructor.
        **options: Its arguments that decide which weights fit.

    Raises:
        ValueError: If there are no weights of that name for the architecture and options.
    """
    if weights is None or not isinstance(weights, str) or pathlib.Path(weights).is_file():
        return None
    if pathlib.Path(weights).suffix or len(pathlib.Path(weights).parts) > 1:
        return None  # meant as a path
    of_architecture = [p for p in list_models() if p.architecture == architecture]
    named = [preset for preset in of_architecture if preset.name == weights]
    if weights == "imagenet":
        raise ValueError(
            "keras_spd has no ImageNet weights. Convert a network of Keras Applications, whose "
            "weights it keeps: `keras_spd.to_spd(keras.applications.ResNet50())`."
        )
    if not named:
        raise ValueError(
            f"There are no weights {weights!r} for {architecture}, nor a file of that name. "
            + (
                f"There are: {', '.join(map(str, of_architecture))}."
                if of_architecture
                else "None come with the package; `keras_spd.list_models()` lists those that do."
            )
        )
    for preset in named:
        if all(options.get(key) == value for key, value in preset.options.items()):
            return preset
    given = ", ".join(f"{key}={value!r}" for key, value in options.items())
    raise ValueError(
        f"The weights {weights!r} are for {', '.join(map(str, named))}. Received: {given}."
    )


def load_preset(variables: Iterable[Any], preset: Preset) -> None:
    """Fills variables with the arrays of a preset.

    Args:
        variables: The model's. Those of layers that it has not (a classifier) stay unread.
        preset: `Preset`.
    """
    arrays = preset.read()
    for variable in variables:
        variable.assign(arrays[variable.path])
