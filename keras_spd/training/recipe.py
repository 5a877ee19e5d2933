"""Recipes: everything needed to repeat a training run, in a small TOML file."""

import difflib
import os
import pathlib
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
import tomli_w

RECIPES = pathlib.Path(__file__).parent / "recipes"


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Model(_Section):
    name: str = "resnet18_spd"
    """Constructor in `keras_spd.applications`, in snake case."""
    weights: str | None = None
    """What training starts from: the name of weights of the package, or the path of a file, as the
    constructor's `weights` takes them; random weights by default."""
    class_map: dict[str, str] = {}
    """Classes of the data to classes of `weights`, where the names differ."""
    options: dict[str, Any] = {}
    """Further arguments of the constructor, such as `downsampling = "strided"`."""


class Optimizer(_Section):
    learning_rate: float = pydantic.Field(default=0.1, gt=0)
    """Peak learning rate."""
    momentum: float = pydantic.Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = pydantic.Field(default=5e-4, ge=0)
    """Coupled, as in PyTorch; see `keras_spd.training.CoupledSGD`."""
    decay_kernels_only: bool = False
    """Whether batch norms and biases are left out of the decay."""
    average: float | None = pydantic.Field(default=None, gt=0, lt=1)
    """Momentum of a moving average of the weights, such as 0.999 in runs of many thousand steps;
    the average is what is evaluated and kept."""


class Schedule(_Section):
    name: Literal["multistep", "cosine"] = "cosine"
    warmup_epochs: float = pydantic.Field(default=1, ge=0)
    """Epochs in which the rate grows linearly from 0."""
    warmup_steps: int | None = pydantic.Field(default=None, ge=0)
    """Most steps of the warm-up, where `warmup_epochs` are more."""
    warmup_bias_rate: float = pydantic.Field(default=0.0, ge=0)
    """Rate that biases start the warm-up with."""
    warmup_momentum: float | None = pydantic.Field(default=None, ge=0, lt=1)
    """Momentum at the first step; the optimizer's by default."""
    milestones: list[int] = []
    """multistep: numbers of the epochs, counted from 1, at whose start the rate drops."""
    factor: float = pydantic.Field(default=0.2, gt=0)
    """multistep: what the rate is multiplied by at a milestone."""
    final_factor: float = pydantic.Field(default=0.0, ge=0, le=1)
    """cosine: the last rate, as a share of the peak."""


class Freeze(_Section):
    layers: list[str] = []
    """Layers that are not trained at first: names, beginnings of names such as `stage2`, or
    `backbone`. Their batch norms are in inference mode."""
    epochs: int | None = pydantic.Field(default=None, ge=1)
    """After how many epochs all layers are trained; never by default."""

    def until(self, epochs: int) -> int:
        """Returns how many epochs of a run of `epochs` have frozen layers."""
        return min(self.epochs or epochs, epochs) if self.layers else 0


class Recipe(_Section):
    """A training run as data: the fields that classifiers and detectors share.

    Example:

    >>> recipe = load_recipe("paper", dataset="cifar10")
    >>> recipe.optimizer.learning_rate
    0.1
    """

    task: Literal["classification", "detection"] = "classification"
    description: str = ""
    epochs: int = pydantic.Field(default=10, ge=1)
    batch_size: int = pydantic.Field(default=128, ge=1)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras dtype policy. Weights and loss stay float32."""
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    """Fixes initial weights, order and augmentation."""
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    freeze: Freeze = Freeze()

    def to_toml(self) -> str:
        """Returns the text of a recipe file that `load_recipe` reads back."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


_Share = Annotated[float, pydantic.Field(ge=0, le=1)]
_MaxValue = Annotated[float | None, pydantic.Field(gt=0, allow_inf_nan=False)]


class ClassificationAugmentation(_Section):
    crop_padding: int = pydantic.Field(default=0, ge=0)
    """Pixels of zero padding around an image before a random crop of its own size."""
    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation_degrees: float = pydantic.Field(default=0.0, ge=0, le=180)
    """Largest random rotation, either way."""
    rand_augment: _Share = 0.0
    """Strength of `keras.layers.RandAugment`."""
    mixup: float = pydantic.Field(default=0.0, ge=0)
    """Strength of mixing two images (alpha of the beta distribution)."""
    cutmix: _Share = 0.0
    """Strength of pasting a part of one image into another (largest alpha)."""


class ClassificationSource(_Section):
    name: str | None = None
    """TFDS data set, or `blood_cells`, which comes with the package; or none, and the folders
    below."""
    train: str = "train"
    """Split; or a folder with a folder of images for each class."""
    test: str = "test"
    """The same, for the scores."""
    data_dir: str | None = None
    """Folder with prepared TFDS data sets; TFDS' own by default."""
    image_size: tuple[int, int] | None = None
    """Height and width to resize images to; needed where their sizes differ."""
    on_problem: Literal["error", "skip"] = "error"
    """What to do about broken images in folders."""
    max_value: _MaxValue = None
    """What becomes 255 in images of more than 8 bits, such as 4095 for a camera of 12 bits; found
    over the training images by default. The trained model predicts with it."""
    statistics: str = "cifar10"
    """Mean and standard deviation for normalisation, a name in `applications.STATISTICS`."""


class ClassificationLoss(_Section):
    label_smoothing: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Share of a label that is spread evenly over all classes."""


class ClassificationRecipe(Recipe):
    """A recipe with `task = "classification"`, the default."""

    task: Literal["classification"] = "classification"
    data: ClassificationSource = ClassificationSource()
    augmentation: ClassificationAugmentation = ClassificationAugmentation()
    loss: ClassificationLoss = ClassificationLoss()


class DetectionAugmentation(_Section):
    """Fields as in `keras_spd.data.DetectionAugmentation`, which documents them."""

    mosaic: _Share = 0.0
    mixup: _Share = 0.0
    scale: _Share = 0.0
    translate: _Share = 0.0
    horizontal_flip: _Share = 0.0
    vertical_flip: _Share = 0.0
    hue: _Share = 0.0
    saturation: _Share = 0.0
    value: _Share = 0.0


class DetectionSource(_Section):
    name: str | None = None
    """TFDS data set, such as `voc/2012`; or none, and the files below."""
    train: str = "train"
    """TFDS split; or a COCO `.json`, YOLO's `data.yaml` or folder, or a folder of VOC `.xml`."""
    test: str = "validation"
    """The same, for the scores."""
    images: str | None = None
    """Folder of the images, where it does not follow from the annotations."""
    data_dir: str | None = None
    """Folder with prepared TFDS data sets; TFDS' own by default."""
    image_size: tuple[int, int] = (640, 640)
    """Height and width of the network's input, multiples of 32."""
    on_problem: Literal["error", "skip"] = "error"
    """What to do about broken images and annotations."""
    max_value: _MaxValue = None
    """What becomes 255 in images of more than 8 bits, such as 4095 for a camera of 12 bits; found
    over the training images by default. The trained model predicts with it."""


class DetectionLoss(_Section):
    """Fields as in `keras_spd.detection.YOLOV5Loss`, which documents them."""

    label_smoothing: float = pydantic.Field(default=0.0, ge=0, lt=1)
    box_gain: float = pydantic.Field(default=0.05, ge=0)
    objectness_gain: float = pydantic.Field(default=1.0, ge=0)
    class_gain: float = pydantic.Field(default=0.5, ge=0)


class DetectionRecipe(Recipe):
    """A recipe with `task = "detection"`."""

    task: Literal["detection"] = "detection"
    data: DetectionSource = DetectionSource()
    augmentation: DetectionAugmentation = DetectionAugmentation()
    loss: DetectionLoss = DetectionLoss()
    fit_anchors: bool = False
    """Whether anchors are fitted to the training boxes, in place of the authors'."""
    evaluate_every: int = pydantic.Field(default=5, ge=1)
    """Epochs between two evaluations with COCO's scores; the last epoch has one in any case."""


_TASKS: dict[str, type[Recipe]] = {
    "classification": ClassificationRecipe,
    "detection": DetectionRecipe,
}


def list_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(
    name_or_path: str | os.PathLike,
    *,
    task: str | None = None,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ClassificationRecipe | DetectionRecipe:
    """Reads a recipe.

    Args:
        name_or_path: Name of a recipe of the package, with or without the task or dataset in
            its name (`"paper"` and `"paper_cifar10"`), or the path of a `.toml` file.
        task: `"classification"`, `"detection"`, or `None` for any.
        dataset: Name of a TFDS dataset to use in place of the recipe's.
        overrides: `{dotted field: value}`, such as `{"optimizer.momentum": 0.8}`.

    Returns:
        `ClassificationRecipe` or `DetectionRecipe`.

    Raises:
        ValueError: If there is no such recipe, or a field is unknown or has an invalid value. The
            message names the field and, if it is misspelt, the closest one.
    """
    content = _read(name_or_path, task, dataset)
    named = {} if dataset is None else {"data.name": dataset}
    for field, value in {**named, **(overrides or {})}.items():
        section = content
        *parents, last = field.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ValueError(f"`{field}`: `{parent}` has no fields of its own.")
        section[last] = value
    stated = content.get("task", "classification")
    if task is not None and stated != task:
        raise ValueError(f"The recipe {name_or_path} is not one for {task}.")
    kind: type[Any] = _TASKS.get(str(stated), Recipe)
    try:
        return kind.model_validate(content)
    except pydantic.ValidationError as error:
        lines = [_explain(problem, kind) for problem in error.errors()]
        raise ValueError(f"Recipe {name_or_path}:\n" + "\n".join(lines)) from None


def differences(stored: Recipe, given: Recipe) -> list[str]:
    """Returns the fields in which two recipes differ, as `field = stored (given: ...)`."""
    ours, theirs = (_flat(recipe.model_dump()) for recipe in (stored, given))
    fields = [field for field in ours | theirs if ours.get(field) != theirs.get(field)]
    return [f"{field} = {ours.get(field)!r} (given: {theirs.get(field)!r})" for field in fields]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in content.items():
        nested = isinstance(value, dict)
        fields |= _flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return fields


def _read(name_or_path: str | os.PathLike, task: str | None, dataset: str | None) -> dict[str, Any]:
    path = pathlib.Path(name_or_path)
    if path.suffix != ".toml":
        candidates = [str(name_or_path)]
        if task == "detection":
            candidates.insert(0, f"{name_or_path}_detection")
        elif dataset is not None:
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


def _explain(problem: Any, kind: type[Recipe]) -> str:
    *parents, last = problem["loc"] or ("recipe",)
    field = ".".join(map(str, problem["loc"]))
    if problem["type"] != "extra_forbidden":
        return f"  {field}: {problem['msg']}. Received: {problem['input']!r}."
    section: Any = kind
    for parent in parents:
        section = section.model_fields[parent].annotation
    known = list(section.model_fields)
    close = difflib.get_close_matches(str(last), known, n=1)
    hint = f" Did you mean `{close[0]}`?" if close else f" Known fields: {', '.join(known)}."
    return f"  {field}: unknown field.{hint}"
