"""The class of every network here: a functional model that remembers how it is to be used."""

import dataclasses

import keras

from keras_spd.applications.preprocessing import Statistics


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What must be known of a trained model before it can be used, beside its weights.

    Args:
        architecture: Name of the constructor, such as `"ResNet18SPD"`.
        class_names: One name for each output, in order; `None` if unknown.
        statistics: The `Statistics` its inputs are normalised with; `None` for raw inputs.
        input_range: Smallest and largest pixel value before normalisation.
        image_size: `(height, width)` the model was trained at; `None` if unknown.
    """

    architecture: str | None = None
    class_names: tuple[str, ...] | None = None
    statistics: Statistics | None = None
    input_range: tuple[float, float] = (0.0, 255.0)
    image_size: tuple[int, int] | None = None

    @classmethod
    def from_config(cls, config):
        """Rebuilds the record from the lists and dictionaries of a model's config."""
        statistics = config.get("statistics")
        class_names = config.get("class_names")
        image_size = config.get("image_size")
        return cls(
            architecture=config.get("architecture"),
            class_names=tuple(class_names) if class_names is not None else None,
            statistics=Statistics(**statistics) if statistics is not None else None,
            input_range=tuple(config.get("input_range", (0.0, 255.0))),
            image_size=tuple(image_size) if image_size is not None else None,
        )


@keras.saving.register_keras_serializable(package="keras_spd")
class ImageModel(keras.Model):
    """A functional Keras model with a `ModelInfo` and named pyramid levels.

    Both are part of the model's config, so they survive `save` and `load_model` in a process that
    has imported `keras_spd`; attributes hung on a plain functional model do not.

    Args:
        inputs: As in `keras.Model`.
        outputs: As in `keras.Model`.
        name: Name of the model.
        info: `ModelInfo`, or its config.
        pyramid_level_inputs: Maps `"P3"` and the like to the name of the last layer whose output
            is `2**3` times smaller than the input. Detectors of keras-cv read this attribute.
        **kwargs: As in `keras.Model`.

    Example:

    >>> model = keras_spd.applications.ResNet18SPD(weights=None, classes=2, input_shape=(32, 32, 3))
    >>> model.info = dataclasses.replace(model.info, class_names=("cat", "dog"))
    >>> model.save("pets.keras")
    >>> keras.saving.load_model("pets.keras").info.class_names
    ('cat', 'dog')
    """

    def __init__(
        self, inputs, outputs, name=None, *, info=None, pyramid_level_inputs=None, **kwargs
    ):
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        if info is None:
            info = ModelInfo()
        self.info = info if isinstance(info, ModelInfo) else ModelInfo.from_config(info)
        self.pyramid_level_inputs = dict(pyramid_level_inputs or {})

    @property
    def info(self):
        """The model's `ModelInfo`. Assign a new one, e.g. from `dataclasses.replace`."""
        return self._info

    @info.setter
    def info(self, info):
        if not isinstance(info, ModelInfo):
            raise ValueError(f"`info` must be a `ModelInfo`. Received: info={info!r}.")
        classes = getattr(self.outputs[0], "shape", (None,))[-1]
        if info.class_names is not None and len(info.class_names) != classes:
            raise ValueError(
                f"`class_names` must name each of the {classes} outputs of the model. "
                f"Received: {len(info.class_names)} names."
            )
        self._info = info

    def get_config(self):
        return {
            **super().get_config(),
            "info": dataclasses.asdict(self.info),
            "pyramid_level_inputs": dict(self.pyramid_level_inputs),
        }
