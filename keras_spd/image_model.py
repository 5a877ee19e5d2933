"""`ImageModel`, a functional model that stores class names and preprocessing."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, Self, runtime_checkable

import keras
import numpy as np

from keras_spd import keras_internals
from keras_spd.images.preprocessing import Preprocessing, Statistics
from keras_spd.images.sizes import check_image_size


@dataclasses.dataclass(frozen=True, init=False)
class ModelInfo:
    """The information needed to use a trained model, apart from its weights.

    Args:
        architecture: Name of the constructor, such as `"ResNet18SPD"`.
        class_names: One name for each output, in order; `None` if unknown.
        preprocessing: `Preprocessing`, how images become the model's inputs.
        **facts: Single fields of `Preprocessing` (`statistics`, `input_range`, `image_size` for
            its `size`, `resize`, `outputs`, `max_value`, `tile`). `dataclasses.replace` also
            accepts them.

    Example:

    >>> info = ModelInfo(class_names=("cat", "dog"), statistics="imagenet")
    >>> info = dataclasses.replace(info, image_size=(224, 224))
    >>> info.preprocessing.size
    (224, 224)
    """

    architecture: str | None
    class_names: tuple[str, ...] | None
    preprocessing: Preprocessing

    def __init__(
        self,
        architecture: str | None = None,
        class_names: tuple[str, ...] | None = None,
        preprocessing: Preprocessing | None = None,
        **facts: Any,
    ) -> None:
        if "image_size" in facts:
            size = facts.pop("image_size")
            facts["size"] = None if size is None else check_image_size(size)
        if isinstance(class_names, str):
            raise ValueError(
                f"`class_names` must be a sequence of names. Received: class_names={class_names!r}."
            )
        preprocessing = dataclasses.replace(preprocessing or Preprocessing(), **facts)
        object.__setattr__(self, "architecture", architecture)
        names = None if class_names is None else tuple(class_names)
        object.__setattr__(self, "class_names", names)
        object.__setattr__(self, "preprocessing", preprocessing)

    @property
    def statistics(self) -> Statistics | None:
        """The `Statistics` that images are normalised with, or `None`."""
        return self.preprocessing.statistics

    @property
    def input_range(self) -> tuple[float, float] | None:
        """The values that 0 and 255 map to, if there are no statistics; `None` if unknown."""
        return self.preprocessing.input_range

    @property
    def image_size(self) -> tuple[int, int] | None:
        """`(height, width)` the model was trained at; `None` if unknown."""
        return self.preprocessing.size

    @property
    def max_value(self) -> float | None:
        """The value that maps to 255 in images of more than 8 bits; `None` for the largest."""
        return self.preprocessing.max_value

    @property
    def tile(self) -> tuple[int, int] | None:
        """`(height, width)` of the tiles that larger images were cut into in training."""
        return self.preprocessing.tile

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Rebuilds the record from the lists and dictionaries of a model's config."""
        config = dict(config)
        if config.get("class_names") is not None:
            config["class_names"] = tuple(config["class_names"])
        if "preprocessing" in config:
            config["preprocessing"] = Preprocessing(**config["preprocessing"])
        return cls(**config)


@runtime_checkable
class ClassifierProtocol(Protocol):
    """The interface that Keras classifiers and `keras_spd.export`'s `ExportedClassifier` share.

    `keras_spd.predict.Classifier` and `keras-spd evaluate` use this interface. They also read the
    model's `info` if it has one (`find_info`).
    """

    @property
    def name(self) -> str:
        """Name of the model, for messages."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """`(None, height, width, 3)`."""

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """`(None, classes)`."""

    def predict_on_batch(self, x: np.ndarray) -> Any:
        """Returns probabilities or logits, an array of shape `(images, classes)`."""


def find_info(model: Any) -> ModelInfo | None:
    """Returns the `ModelInfo` of a model; `None` for a Keras model that has none."""
    info = getattr(model, "info", None)
    return info if isinstance(info, ModelInfo) else None


def known_preprocessing(model: Any) -> Preprocessing:
    """Returns the `Preprocessing` of a model.

    Raises:
        ValueError: If the model does not define how its images are normalised.
    """
    info = find_info(model)
    if info is None or not info.preprocessing.is_known:
        raise ValueError(
            f"`{getattr(model, 'name', model)}` does not define how its images are normalised, so "
            "results would be wrong. Define it with `keras_spd.applications.ModelInfo`: "
            "`model.info = "
            'dataclasses.replace(model.info, statistics="imagenet")` for an `ImageModel`, '
            "`model = ImageModel(model.input, model.output, info=ModelInfo(...))` for any other "
            "functional model. `statistics` is a name or `Statistics(mean, std)`. For a network "
            "that takes pixels or scaled pixels, set `input_range=(0, 255)`, `(0, 1)` or `(-1, 1)`"
            " instead."
        )
    return info.preprocessing


def list_names(names: Sequence[str]) -> str:
    """Returns at most the first five names: `"cat, dog, cow, ..."`."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


@keras.saving.register_keras_serializable(package="keras_spd")
class ImageModel(keras.Model):
    """A functional Keras model with a `ModelInfo` and named pyramid levels.

    Both are part of the model's config, so they survive `save` and `load_model` in a process that
    has imported `keras_spd`. Attributes set on a plain functional model do not.
    `ImageModel.from_config(model.get_config())` copies them as well; `keras.models.clone_model`
    does not.

    Args:
        inputs: As in `keras.Model`. A list with a single tensor, such as `model.inputs`, is
            treated as that tensor.
        outputs: Like `inputs`.
        name: Name of the model.
        info: `ModelInfo`, or its config.
        pyramid_level_inputs: Dictionary that maps `"P3"` and so on to the name of the last layer
            whose output is `2**3` and so on times smaller than the input. keras-cv's detectors
            read it.
        **kwargs: As in `keras.Model`.

    Raises:
        ValueError: If `info` is not a `ModelInfo`, or the number of class names differs from the
            number of outputs.

    Example:

    >>> model = keras_spd.applications.ResNet18SPD(weights=None, classes=2, input_shape=(32, 32, 3))
    >>> model.info = dataclasses.replace(model.info, class_names=("cat", "dog"))
    >>> model.save("pets.keras")
    >>> keras.saving.load_model("pets.keras").info.class_names
    ('cat', 'dog')
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        *,
        info: ModelInfo | dict[str, Any] | None = None,
        pyramid_level_inputs: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        inputs, outputs = _single(inputs), _single(outputs)
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        if info is None:
            info = ModelInfo()
        self.info = ModelInfo.from_config(info) if isinstance(info, dict) else info
        self.pyramid_level_inputs = dict(pyramid_level_inputs or {})

    @property
    def info(self) -> ModelInfo:
        """The model's `ModelInfo`. Assign a new one, e.g. from `dataclasses.replace`."""
        return self._info

    @info.setter
    def info(self, info: ModelInfo) -> None:
        if not isinstance(info, ModelInfo):
            raise ValueError(f"`info` must be a `ModelInfo`. Received: info={info!r}.")
        classes = getattr(self.outputs[0], "shape", (None,))[-1]
        if info.class_names is not None and len(info.class_names) != classes:
            raise ValueError(
                f"`class_names` must name each of the {classes} outputs of the model. "
                f"Received: {len(info.class_names)} names."
            )
        self._info = info

    def make_train_function(self, force: bool = False) -> Any:
        build_optimizer(self)
        return super().make_train_function(force)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "info": dataclasses.asdict(self.info),
            "pyramid_level_inputs": dict(self.pyramid_level_inputs),
        }


def build_optimizer(model: keras.Model) -> None:
    """Creates the optimizer's variables before a training step is traced.

    TensorFlow traces a step that creates variables twice, which takes twice as long.
    """
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def _single(tensors: Any) -> Any:
    return tensors[0] if isinstance(tensors, (list, tuple)) and len(tensors) == 1 else tensors


def find_pyramid(model: keras.Model) -> dict[str, str]:
    """Finds the last layer of a network at each resolution.

    Args:
        model: Functional model from images to features.

    Returns:
        Dictionary that maps `"P1"`, `"P2"` and so on to the name of the last layer whose output is
        `2**1`, `2**2` ... times smaller than the input. Pass it to
        `ImageModel(inputs, outputs, pyramid_level_inputs=...)` to make a backbone for keras-cv.

    Raises:
        ValueError: If the model's input is not a single batch of images.

    Example:

    >>> find_pyramid(keras.applications.MobileNetV2(weights=None, include_top=False))["P5"]
    'out_relu'
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            f"`{model.name}` must take one batch of images. Received: "
            f"inputs={[tuple(tensor.shape) for tensor in model.inputs]}."
        )
    sides, probe = _with_known_size(model)
    levels = {tuple(-(-side // 2**level) for side in sides): f"P{level}" for level in range(1, 8)}
    pyramid = {}
    for layer in probe.layers:
        outputs = [tensor for call in keras_internals.calls(layer) for tensor in call.outputs]
        shape = tuple(outputs[0].shape) if len(outputs) == 1 else ()
        level = levels.get(shape[1:3])
        if level is not None and len(shape) == 4:
            pyramid[level] = layer.name
    return pyramid


def _with_known_size(model: keras.Model) -> tuple[tuple[int, int], keras.Model]:
    """Returns `(height, width)` and a copy for images of this size, or the model if it has one."""
    size = (256, 256)  # every level has its own size
    images = keras.Input((*size, model.inputs[0].shape[-1]))
    try:
        copy = keras.models.clone_model(
            keras.Model(model.inputs[0], model.outputs),
            input_tensors=images,
            clone_function=keras_internals.copy_layer,
        )
    except ValueError:  # parts of it only take images of one size
        if None in model.inputs[0].shape[1:3]:
            raise
        return tuple(model.inputs[0].shape[1:3]), model
    return size, copy
