"""The fields of recipes: the settings of a training run, with types, ranges and defaults."""

import dataclasses
import typing
from typing import Any, Literal, Self

import pydantic
import tomli_w

from keras_spd.data.classification.augmentation import Augmentation
from keras_spd.data.detection.augmentation import DetectionAugmentation
from keras_spd.training.field_types import (
    BoxComparison,
    ClassWeights,
    Fraction,
    ImageSize,
    MaxValue,
    OptionalImageSize,
    PartOfData,
    Texts,
    Tile,
    Validation,
)

PASSED = "passed in Python"  # in the recipe of a run, instead of the source of its data


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Model(_Section):
    name: str = "resnet18_spd"
    """Name of the network, such as `yolov5_spd_n`."""
    weights: str | None = None
    """Initial weights: the name of shipped weights or the path of a file, as in the constructor's
    `weights`; random by default. Outputs of classes with the same name are kept. A classifier
    normalises images as in the training of its weights."""
    backbone: str | None = None
    """Detectors: a trained classifier as backbone, instead of YOLOv5's: `model.keras` in the run
    folder of `train resnet18_spd`, or a name such as `cifar10`. Neck and head start
    from random weights."""
    class_map: dict[str, str] = {}
    """Maps classes of the data to classes of `weights` if the names differ."""
    options: dict[str, Any] = {}
    """Further arguments of the constructor: `{downsampling = "strided", stem_stride = 2}` is the
    strided twin of a ResNet; detectors have no `stem_stride`."""


class Optimizer(_Section):
    name: Literal["sgd", "adamw"] = "sgd"
    """`sgd` is `keras_spd.optimizers.CoupledSGD`, `adamw` is `keras.optimizers.AdamW`, which needs
    other rates: try `learning_rate = 0.001` and `weight_decay = 0.05`."""
    learning_rate: float = pydantic.Field(default=0.1, gt=0)
    """Peak learning rate."""
    momentum: float = pydantic.Field(default=0.9, ge=0, lt=1)
    """`sgd`: momentum. `adamw`: `beta_1`."""
    nesterov: bool = False
    """`sgd`: whether to use Nesterov momentum."""
    weight_decay: float = pydantic.Field(default=5e-4, ge=0)
    """`sgd`: coupled, as in PyTorch. `adamw`: decoupled."""
    decay_kernels_only: bool = False
    """Whether weight decay applies only to kernels, not to batch norms and biases."""
    average: float | None = pydantic.Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, such as 0.999 in runs of many thousand
    steps. The average is evaluated and saved. In short runs the decay is lower: after the last
    step, the weights of the first one count 1 % at most."""
    clip_norm: float | None = pydantic.Field(default=None, gt=0)
    """Global norm that gradients are clipped to; detectors: by default, the value of the head."""
    accumulate_batches: int = pydantic.Field(default=1, ge=1)
    """Number of batches per update, for batches that do not fit into memory. Their gradients are
    combined as in one large batch. Schedule, `warmup_steps` and `average` still count batches."""


class Schedule(_Section):
    name: Literal["multistep", "cosine", "triangular"] = "cosine"
    """How the rate falls after the warm-up: in steps, along a cosine, or linearly."""
    warmup_epochs: float = pydantic.Field(default=1, ge=0)
    """Epochs in which the rate rises linearly from 0."""
    warmup_fraction: float | None = pydantic.Field(default=None, ge=0, lt=1)
    """The warm-up as a fraction of the run, instead of `warmup_epochs`."""
    warmup_steps: int | None = pydantic.Field(default=None, ge=0)
    """Upper limit for the warm-up, in steps."""
    warmup_bias_rate: float = pydantic.Field(default=0.0, ge=0)
    """`sgd`: rate of biases at the first step."""
    warmup_momentum: float | None = pydantic.Field(default=None, ge=0, lt=1)
    """`sgd`: momentum at the first step; that of the optimizer by default."""
    milestones: list[int] = []
    """`multistep`: epochs, counted from 1, at whose start the rate drops."""
    factor: float = pydantic.Field(default=0.2, gt=0)
    """`multistep`: factor for the rate at each milestone."""
    final_factor: float = pydantic.Field(default=0.0, ge=0, le=1)
    """`cosine` and `triangular`: final rate as a fraction of the peak."""


class Freeze(_Section):
    layers: Texts = []
    """Layers to freeze: names, prefixes such as `stage2`, or `backbone`. Their batch norms run in
    inference mode."""
    epochs: int | None = pydantic.Field(default=None, ge=1)
    """Epochs after which these layers are unfrozen; by default, they stay frozen."""

    def until(self, epochs: int) -> int:
        """Returns the number of epochs with frozen layers in a run of `epochs`."""
        return min(self.epochs or epochs, epochs) if self.layers else 0


class Recipe(_Section):
    """A training run as data: the fields that classifiers and detectors share.

    Example:

    >>> recipe = load_recipe("paper", dataset="cifar10")
    >>> recipe.optimizer.learning_rate
    0.1
    """

    task: Literal["classification", "detection"] = "classification"
    """Determines which fields apply: those of classifiers or those of detectors."""
    description: str = ""
    """One line for readers."""
    epochs: int = pydantic.Field(default=10, ge=1)
    """Number of passes over the training images."""
    batch_size: int = pydantic.Field(default=128, ge=1)
    """Images per step, over all devices."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Keras dtype policy; weights and loss stay float32. `"auto"` is `"mixed_bfloat16"` on GPUs and
    CPUs with bfloat16 instructions, and `"float32"` on others; a run keeps what it started with."""
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    """Determines initial weights, order of the images, augmentation, and held-out images."""
    patience: int | None = pydantic.Field(default=None, ge=1)
    """Early stopping: training ends after this many evaluations without a better score. The
    schedule of the learning rate still spans `epochs`. By default, all epochs are trained."""
    quantize_aware: bool = False
    """Quantisation-aware training for int8, from trained weights and in float32, as in
    `keras_spd.quantize_aware`. An int8 file of the trained model uses the learned ranges."""
    model: Model = Model()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    freeze: Freeze = Freeze()
    if typing.TYPE_CHECKING:
        data: Any  # of the recipes of both tasks, with fields of their own
        evaluate_every: int  # with other defaults

    def is_evaluated(self, epoch: int) -> bool:
        """Returns whether the model is evaluated after an epoch, counted from 0."""
        return (epoch + 1) % self.evaluate_every == 0 or epoch + 1 == self.epochs

    def to_toml(self) -> str:
        """Returns the text of a recipe file that `load_recipe` reads back."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))


class ClassificationSource(_Section):
    name: str | None = None
    """TFDS dataset, or the shipped `blood_cells`; none for folders."""
    train: str = "train"
    """TFDS split; or a folder with one subfolder of images per class."""
    test: str = "test"
    """The same, for the scores of the trained model."""
    validation: Validation = None
    """The same, for choosing the best epoch; or the fraction of each class' training images to hold
    out for it by `seed`, such as 0.1. Without it, the best epoch is chosen on the test data."""
    fraction: PartOfData = None
    """Fraction of each class' training images to train on, such as 0.1 for a trial, chosen by
    `seed`. Images that `validation` holds out are not among them."""
    data_dir: str | None = None
    """Folder with prepared TFDS datasets; by default, TFDS's own."""
    image_size: OptionalImageSize = None
    """Height and width, or one number, to resize images to; required if their sizes differ."""
    on_problem: Literal["error", "skip"] = "error"
    """What to do about broken images in folders."""
    max_value: MaxValue = None
    """Value that becomes 255 in images of more than 8 bits, such as 4095 for a 12-bit camera; found
    in the training images by default. The trained model predicts with it."""
    statistics: str = "cifar10"
    """Mean and standard deviation for normalisation: a name in `applications.STATISTICS`."""


class ClassificationLoss(_Section):
    label_smoothing: float = pydantic.Field(default=0.0, ge=0, lt=1)
    """Fraction of a label that is spread evenly over all classes."""
    class_weights: ClassWeights = None
    """Factors for the loss of images of these classes, 1 for others; or `"balanced"`, inversely
    proportional to the number of training images."""


class ProgressiveResizing(_Section):
    """Smaller images in the first epochs. The fields are those of MosaicML's Composer.

    Reference: https://docs.mosaicml.com/projects/composer/en/stable/method_cards/progressive_resizing.html
    """

    initial_scale: float = pydantic.Field(default=1.0, gt=0, le=1)
    """Size of the images in the first epochs, as a fraction of the full size; 1 turns this off."""
    delay_fraction: Fraction = 0.5
    """Fraction of the epochs with the initial size. After that, the size grows linearly."""
    finetune_fraction: Fraction = 0.2
    """Fraction of the epochs, at the end, with the full size. The last epoch always has it."""
    size_increment: int = pydantic.Field(default=4, ge=1)
    """Sizes are multiples of this number of pixels."""

    @pydantic.model_validator(mode="after")
    def _check_fractions(self) -> Self:
        if self.initial_scale < 1 and self.delay_fraction + self.finetune_fraction > 1 + 1e-6:
            raise ValueError(
                "`delay_fraction` and `finetune_fraction` must sum to 1 at most. Received: "
                f"{self.delay_fraction} and {self.finetune_fraction}."
            )
        return self

    def image_size(self, full_size: tuple[int, int], epoch: int, epochs: int) -> tuple[int, int]:
        """Returns height and width of the images in an epoch.

        Args:
            full_size: Height and width of the data's images.
            epoch: Integer, counted from 0.
            epochs: Integer, the number of epochs in the run.
        """
        if self.initial_scale == 1 or epoch + 1 >= epochs:
            return full_size
        growing = 1 - self.finetune_fraction - self.delay_fraction
        past_delay = (epoch + 0.5) / epochs - self.delay_fraction
        grown = past_delay / growing if growing > 0 else float(past_delay > 0)
        if grown >= 1:
            return full_size
        scale = self.initial_scale + (1 - self.initial_scale) * max(grown, 0.0)
        step = self.size_increment
        height, width = (
            min(max(int(side * scale / step + 0.5), 1) * step, side) for side in full_size
        )
        return height, width


class ClassificationRecipe(Recipe):
    """A recipe with `task = "classification"`, the default."""

    task: Literal["classification"] = "classification"
    data: ClassificationSource = ClassificationSource()
    augmentation: Augmentation = Augmentation()
    loss: ClassificationLoss = ClassificationLoss()
    progressive_resizing: ProgressiveResizing = ProgressiveResizing()
    evaluate_every: int = pydantic.Field(default=1, ge=1)
    """Epochs between evaluations; the last epoch is always evaluated."""
    precise_batch_norm: int = pydantic.Field(default=0, ge=0)
    """Number of training images on which batch norm statistics are re-estimated before each
    evaluation; 0 keeps the moving averages. For averaged weights and `progressive_resizing`."""


class DetectionSource(_Section):
    name: str | None = None
    """TFDS dataset, such as `voc/2012`; none for files."""
    train: str = "train"
    """TFDS split; or a COCO `.json`, YOLO's `data.yaml` or folder, or a folder of VOC `.xml`."""
    test: str = "validation"
    """The same, for the scores of the trained model."""
    validation: Validation = None
    """The same, for choosing the best epoch; or the fraction of the training images to hold out for
    it by `seed`, such as 0.1. Without it, the best epoch is chosen on the test data."""
    fraction: PartOfData = None
    """Fraction of the training images to train on, such as 0.1 for a trial, chosen by `seed`.
    Images that `validation` holds out are not among them. Whole images are chosen, before they are
    cut into tiles."""
    images: str | None = None
    """Folder of the images, if it cannot be found from the annotations."""
    data_dir: str | None = None
    """Folder with prepared TFDS datasets; by default, TFDS's own."""
    image_size: ImageSize = (640, 640)
    """Height and width of the network's input, multiples of the largest stride: 32 with P5."""
    tile: Tile = None
    """Height and width, or one number, of tiles that larger images are cut into. Each tile is
    resized to `image_size`, which `--tile` sets to the same size. Scores are those of whole images,
    predicted in tiles. The `tile_` fields are arguments of `keras_spd.data.DetectionData.tiles`."""
    tile_overlap: float = pydantic.Field(default=0.2, ge=0, le=0.5)
    """Fraction of a tile that the next tile also covers."""
    tile_min_area: Fraction = 0.5
    """Fraction of a box's area that must be inside a tile; boxes with less are dropped from it."""
    tile_empty: Fraction = 0.1
    """Fraction of the tiles without objects that is trained on, chosen by `seed`."""
    tile_whole: bool = False
    """Whether to also train on the whole images, for objects that are larger than a tile."""
    on_problem: Literal["error", "skip"] = "error"
    """What to do about broken images and annotations."""
    max_value: MaxValue = None
    """Value that becomes 255 in images of more than 8 bits, such as 4095 for a 12-bit camera; found
    in the training images by default. The trained model predicts with it."""
    cache: str | None = None
    """Folder for decoded images, 3 bytes per pixel, so that each is decoded once, not once per
    epoch. As in `keras_spd.data.DetectionData.cache`."""
    workers: int | None = pydantic.Field(default=None, ge=1)
    """Threads that read and augment images; one per CPU core by default, at most 16. The images do
    not depend on it."""


class DetectionLoss(_Section):
    """Arguments of the loss of the model's head, such as `keras_spd.detection.YOLOV5Loss`, which
    also has their defaults."""

    label_smoothing: float | None = pydantic.Field(default=None, ge=0, lt=1)
    box_gain: float | None = pydantic.Field(default=None, ge=0)
    objectness_gain: float | None = pydantic.Field(default=None, ge=0)
    class_gain: float | None = pydantic.Field(default=None, ge=0)
    class_weights: ClassWeights = None
    """Factors for the class loss of objects of these classes, 1 for others; or `"balanced"`,
    inversely proportional to the number of training objects."""
    iou: BoxComparison = None
    """YOLOv5's head: how predicted boxes are compared with the ground truth, or weights of several
    comparisons, such as `{ciou = 0.5, nwd = 0.5}`."""
    nwd_constant: float | None = pydantic.Field(default=None, gt=0)
    """Constant of `nwd` in network pixels; by default, the mean side of the training boxes."""
    assignment: Literal["ratio", "rfla"] | None = None
    """YOLOv5's head: which predictions learn a box, by ratio to the anchors or by receptive
    field."""


class DetectionRecipe(Recipe):
    """A recipe with `task = "detection"`."""

    task: Literal["detection"] = "detection"
    data: DetectionSource = DetectionSource()
    augmentation: DetectionAugmentation = DetectionAugmentation()
    loss: DetectionLoss = DetectionLoss()
    fit_anchors: bool = False
    """Whether to fit the anchors to the training boxes, instead of using the authors'."""
    evaluate_every: int = pydantic.Field(default=5, ge=1)
    """Epochs between evaluations with COCO's metrics; the last epoch is always evaluated."""


def is_section(kind: Any) -> bool:
    """Returns whether a field's type has fields of its own."""
    return dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields")


def section_fields(section: type) -> dict[str, pydantic.fields.FieldInfo]:
    """Returns the fields of a section of a recipe, a pydantic model or a dataclass, by name."""
    if not dataclasses.is_dataclass(section):
        return section.model_fields  # type: ignore[attr-defined]
    kinds = typing.get_type_hints(section)
    return {
        field.name: pydantic.fields.FieldInfo(annotation=kinds[field.name], default=field.default)
        for field in dataclasses.fields(section)
    }
