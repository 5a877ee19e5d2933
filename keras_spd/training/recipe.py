"""Recipes: everything that must be known to repeat a training run, as a small TOML file."""

import difflib
import pathlib
import tomllib
from typing import Any, Literal

import pydantic
import tomli_w

RECIPES = pathlib.Path(__file__).parent / "recipes"


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Model(_Section):
    name: str = "resnet18_spd"
    """Constructor in `keras_spd.applications`, in snake case."""
    options: dict[str, Any] = {}
    """Further arguments of the constructor, such as `downsampling = "strided"`."""


class Data(_Section):
    name: str = "cifar10"
    """TFDS data set, or `blood_cells`, which comes with the package."""
    train_split: str = "train"
    test_split: str = "test"
    data_dir: str | None = None
    """Folder with prepared TFDS data sets; TFDS' own by default."""
    image_size: tuple[int, int] | None = None
    """Height and width to resize images to; needed where their sizes differ."""
    statistics: str = "cifar10"
    """Mean and standard deviation for normalisation, a name in `applications.STATISTICS`."""


class Augmentation(_Section):
    crop_padding: int = pydantic.Field(default=0, ge=0)
    """Pixels of zero padding around an image before a random crop of its own size."""
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation_degrees: float = pydantic.Field(default=0.0, ge=0, le=180)
    """Largest random rotation, either way."""


class Optimizer(_Section):
    learning_rate: float = pydantic.Field(default=0.1, gt=0)
    """Peak learning rate."""
    momentum: float = pydantic.Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = pydantic.Field(default=5e-4, ge=0)
    """Coupled, as in PyTorch; see `keras_spd.training.CoupledSGD`."""


class Schedule(_Section):
    name: Literal["multistep", "cosine"] = "cosine"
    warmup_epochs: float = pydantic.Field(default=1, ge=0)
    """Epochs in which the rate grows linearly from 0."""
    milestones: list[int] = []
    """multistep: numbers of the epochs, counted from 1, at whose start the rate drops."""
    factor: float = pydantic.Field(default=0.2, gt=0)
    """multistep: what the rate is multiplied by at a milestone."""


class Recipe(_Section):
    """A training run as data.

    Example:

    >>> recipe = load_recipe("paper", dataset="cifar10")
    >>> recipe.optimizer.learning_rate
    0.1
    """

    description: str = ""
    epochs: int = pydantic.Field(default=10, ge=1)
    batch_size: int = pydantic.Field(default=128, ge=1)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras dtype policy. Weights and loss stay float32."""
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    """Fixes initial weights, order and augmentation."""
    model: Model = Model()
    data: Data = Data()
    augmentation: Augmentation = Augmentation()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()

    def to_toml(self):
        """Returns the text of a recipe file that `load_recipe` reads back."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


def list_recipes():
    """Returns the names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name_or_path, *, dataset=None, overrides=None):
    """Reads a recipe.

    Args:
        name_or_path: Name of a recipe of the package, with or without the data set's name
            (`"paper"` and `"paper_cifar10"`), or the path of a `.toml` file.
        dataset: Name of a TFDS data set, to take the place of the recipe's.
        overrides: Dictionary of dotted fields to values, such as `{"optimizer.momentum": 0.8}`.

    Returns:
        `Recipe`.

    Raises:
        ValueError: If there is no such recipe, or a field is unknown or has a bad value; it names
            the field and, for a misspelt one, the right one.
    """
    content = _read(name_or_path, dataset)
    if dataset is not None:
        content.setdefault("data", {})["name"] = dataset
    for field, value in (overrides or {}).items():
        section = content
        *parents, last = field.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ValueError(f"`{field}`: `{parent}` has no fields of its own.")
        section[last] = value
    try:
        return Recipe.model_validate(content)
    except pydantic.ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ValueError(f"Recipe {name_or_path}:\n" + "\n".join(lines)) from None


def _read(name_or_path, dataset):
    path = pathlib.Path(name_or_path)
    if path.suffix != ".toml":
        candidates = [str(name_or_path)]
        if dataset is not None:
            candidates.append(f"{name_or_path}_{dataset.split(':')[0].split('/')[0]}")
        found = [name for name in candidates if name in list_recipes()]
        if not found:
            raise ValueError(
                f"There is no recipe {' or '.join(map(repr, candidates))}. Those of the package "
                f"are {list_recipes()}; your own is given as the path of a `.toml` file."
            )
        path = RECIPES / f"{found[0]}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"Cannot read the recipe {path}: {error}") from error


def _explain(problem):
    *parents, last = problem["loc"] or ("recipe",)
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] != "extra_forbidden":
        return f"  {field}: {problem['msg']}. Received: {problem['input']!r}."
    section: Any = Recipe
    for parent in parents:
        section = section.model_fields[parent].annotation
    known = list(section.model_fields)
    close = difflib.get_close_matches(str(last), known, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else f" Known fields: {', '.join(known)}."
    return f"  {field}: unknown field.{hint}"
