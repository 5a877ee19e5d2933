"""Types of recipe fields with checks of their own, whose messages are clearer than pydantic's."""

import math
from typing import Annotated, Any, Literal

import pydantic

from keras_spd.detection.box_loss import check_iou
from keras_spd.images.sizes import check_image_size
from keras_spd.images.tiles import check_tile


def _as_list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        raise ValueError('it must be a list of quoted strings; in a shell: FIELD=\'["a", "b"]\'')
    return [value]


Texts = Annotated[list[str], pydantic.BeforeValidator(_as_list)]


def _check_fraction(value: str | float | None) -> str | float | None:
    if isinstance(value, str) and value.rstrip().endswith("%"):
        raise ValueError("it must be a split, a path, or a fraction, such as 0.1 for 10 %")
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError("it must be a split, a path, or a fraction between 0 and 1")
    return value


def _as_image_size(value: Any) -> Any:
    return None if value is None else check_image_size(value)


def _as_tile(value: Any) -> Any:
    return None if value is None else check_tile(value)


_AnyFloat = Annotated[float, pydantic.Field(allow_inf_nan=True)]  # NaN is no fraction, see above
Validation = Annotated[str | _AnyFloat | None, pydantic.AfterValidator(_check_fraction)]
Fraction = Annotated[float, pydantic.Field(ge=0, le=1)]
ImageSize = Annotated[tuple[int, int], pydantic.BeforeValidator(check_image_size)]
OptionalImageSize = Annotated[tuple[int, int] | None, pydantic.BeforeValidator(_as_image_size)]
Tile = Annotated[tuple[int, int] | None, pydantic.BeforeValidator(_as_tile)]
MaxValue = Annotated[float | None, pydantic.Field(gt=0, allow_inf_nan=False)]


def _check_class_weights(value: Any) -> Any:
    """Raises a `ValueError` that is clearer than pydantic's."""
    factors = list(value.values()) if isinstance(value, dict) else [value]
    numbers = all(type(factor) in (int, float) and 0 < factor < math.inf for factor in factors)
    if value in (None, "balanced") or (isinstance(value, dict) and numbers):
        return value
    raise ValueError(
        'it must be "balanced", or factors above 0 by class name; in a shell: '
        "loss.class_weights='{\"spur\": 2}'"
    )


ClassWeights = Annotated[
    Literal["balanced"] | dict[str, float] | None, pydantic.BeforeValidator(_check_class_weights)
]
PartOfData = Annotated[float | None, pydantic.Field(gt=0, lt=1)]


def _check_iou(iou: Any) -> Any:
    if iou is not None:
        check_iou(iou)  # its message is clearer than pydantic's
    return iou


_Name = Literal["ciou", "wiou", "nwd"]
BoxComparison = Annotated[_Name | dict[_Name, float] | None, pydantic.BeforeValidator(_check_iou)]
