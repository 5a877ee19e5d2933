"""Our backbones for KerasHub's detectors. Needs `pip install "keras_spd[hub]"`.

```
import keras_hub
from keras_spd.applications.keras_hub import KerasHubBackbone

backbone = KerasHubBackbone(keras_spd.applications.ResNetSPDBackbone(18))
encoder = keras_hub.models.RetinaNetBackbone(backbone, min_level=3, max_level=5, use_p5=False)
detector = keras_hub.models.RetinaNetObjectDetector(encoder, 3, bounding_box_format="xyxy")
```

Also import this module before `keras_hub.models.ObjectDetector.from_preset` loads such a detector,
because it registers the class.
"""

from collections.abc import Mapping
from typing import Any, Self

import keras

from keras_spd import keras_internals
from keras_spd.image_model import ImageModel, find_pyramid

try:
    import keras_hub
except ImportError as error:
    raise ImportError(
        f'KerasHub is needed: `pip install "keras_spd[hub]"`, or `pip install keras-hub` ({error}).'
    ) from error


@keras.saving.register_keras_serializable(package="keras_spd")
class KerasHubBackbone(keras_hub.models.FeaturePyramidBackbone):
    """A backbone as a `keras_hub.models.FeaturePyramidBackbone`, with the same layers and weights.

    Normalise images as `network` needs it (`network.info.preprocessing.normalize`): KerasHub does
    not read that from the backbone.

    Args:
        network: `ImageModel` with pyramid levels, such as `ResNetSPDBackbone(18)` or
            `YOLOV5SPDBackbone("n")`; or a functional model, whose levels are then found by stride.
        **kwargs: `name`, `trainable` and `dtype`, as in `keras_hub.models.Backbone`.

    Raises:
        ValueError: If the network has no level.

    Example:

    >>> backbone = KerasHubBackbone(keras_spd.applications.YOLOV5SPDBackbone("n"))
    >>> sorted(backbone.pyramid_outputs)
    ['P1', 'P2', 'P3', 'P4', 'P5']
    >>> backbone.save_to_preset("yolov5_spd_n")
    >>> backbone = KerasHubBackbone.from_preset("yolov5_spd_n")
    """

    def __init__(self, network: keras.Model, **kwargs: Any) -> None:
        levels = getattr(network, "pyramid_level_inputs", None) or find_pyramid(network)
        if not levels:
            raise ValueError(
                f"`{network.name}` has no pyramid levels: pass a backbone, such as "
                "`ResNetSPDBackbone(18)`."
            )
        kwargs.setdefault("name", network.name)
        super().__init__(inputs=network.input, outputs=network.output, **kwargs)
        self.pyramid_outputs = {
            level: keras_internals.output_of(network, name) for level, name in levels.items()
        }
        self.image_shape = network.input_shape[1:]
        self._network_config = keras.saving.serialize_keras_object(network)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "network": dict(self._network_config)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        network: ImageModel = keras.saving.deserialize_keras_object(dict(config["network"]))
        return super().from_config({**config, "network": network})
