"""The class of every network here: a functional model that remembers how it is to be used."""

import dataclasses

import keras

from keras_spd.images.preprocessing import Statistics


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


def find_pyramid(model):
    """Finds the last layer of a network at each resolution.

    Args:
        model: Functional model from images to features.

    Returns:
        Dictionary that maps `"P1"`, `"P2"` and so on to the name of the last layer whose output is
        `2**1`, `2**2` ... times smaller than the input. Pass it to
        `ImageModel(inputs, outputs, pyramid_level_inputs=...)` to make a backbone for keras-cv.

    Raises:
        ValueError: If the model takes anything else than one batch of images.

    Example:

    >>> find_pyramid(keras.applications.MobileNetV2(weights=None, include_top=False))["P5"]
    'out_relu'
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            f"`{model.name}` must take one batch of images. Received: "
            f"inputs={[tuple(tensor.shape) for tensor in model.inputs]}."
        )
    side = 256
    images = keras.Input((side, side, model.inputs[0].shape[-1]))
    probe = keras.models.clone_model(
        keras.Model(model.inputs[0], model.outputs), input_tensors=images
    )
    levels = {(side >> level, side >> level): f"P{level}" for level in range(1, 8)}
    pyramid = {}
    for layer in probe.layers:
        shape = tuple(layer.output.shape) if len(layer._inbound_nodes) == 1 else ()
        level = levels.get(shape[1:3])
        if level is not None and len(shape) == 4:
            pyramid[level] = layer.name
    return pyramid
