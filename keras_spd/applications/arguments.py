"""Checks the arguments that all constructors share."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_spd.typing import Shape, Tensor


def check_image_data_format() -> None:
    """Raises a `ValueError` if Keras is configured for channels_first images."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            'The networks only support "channels_last" images, but Keras is configured with '
            f'image_data_format="{keras.config.image_data_format()}". Call '
            '`keras.config.set_image_data_format("channels_last")` before building one.'
        )


def check_input_shape(input_shape: Any) -> None:
    """Raises a `ValueError` unless `input_shape` is `None` or `(height, width, channels)`."""
    if input_shape is None:
        return

    def is_size(value: Any) -> bool:
        return isinstance(value, int) and value >= 1

    if (
        not isinstance(input_shape, (tuple, list))
        or len(input_shape) != 3
        or not all(side is None or is_size(side) for side in input_shape[:2])
        or not is_size(input_shape[2])
    ):
        raise ValueError(
            "`input_shape` must be (height, width, channels), with `None` for a side that varies. "
            f"Received: input_shape={input_shape!r}."
        )


def image_input(
    input_tensor: keras.KerasTensor | None, input_shape: Shape | None
) -> tuple[Tensor, Tensor]:
    """Returns the inputs of the model and the tensor to build on, as in Keras Applications."""
    if input_tensor is None:
        x = keras.Input(shape=input_shape or (None, None, 3), name="images")
        return x, x
    if not isinstance(input_tensor, keras.KerasTensor):
        raise ValueError(
            "`input_tensor` must be a Keras tensor, such as `keras.Input(shape=(32, 32, 3))`. "
            f"Received: {type(input_tensor).__name__}."
        )
    return keras.utils.get_source_inputs(input_tensor), input_tensor


def check_class_names(class_names: Sequence[str] | None, classes: int) -> tuple[str, ...] | None:
    """Checks class names and returns them as a tuple, or `None`.

    Args:
        class_names: List of strings, or `None`.
        classes: Integer, the number of classes.

    Raises:
        ValueError: If there are not `classes` names, or a name occurs twice.
    """
    if class_names is None:
        return None
    texts = isinstance(class_names, Iterable) and not isinstance(class_names, str)
    texts = texts and all(isinstance(name, str) for name in class_names)
    if not texts or len(class_names) != classes:
        raise ValueError(
            f"`class_names` must hold one name for each of classes={classes}. "
            f"Received: class_names={class_names!r}."
        )
    twice = sorted(name for name, count in Counter(class_names).items() if count > 1)
    if twice:
        raise ValueError(
            f"`class_names` must be unique. Received more than once: "
            f"{', '.join(map(repr, twice))}. Rename one, or merge the classes in the data."
        )
    return tuple(class_names)
