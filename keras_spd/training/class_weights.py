"""Weights of classes in the loss, for data in which some classes are rare."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from keras_spd.typing import Array


def find_class_weights(
    setting: Mapping[str, float] | Literal["balanced"] | None,
    class_names: Sequence[str],
    count: Callable[[], Array],
) -> tuple[float, ...] | None:
    """Returns the weight of each class, or `None` if all are 1.

    Args:
        setting: `loss.class_weights` of a recipe.
        class_names: The classes of the data.
        count: Function that returns the number of training examples of each class. With
            `"balanced"`, weights are inversely proportional to it, and 1 on average over the
            examples.

    Raises:
        ValueError: If a name is not that of a class.
    """
    if not setting:
        return None
    if setting == "balanced":
        counts = np.asarray(count())
        per_class = counts.sum() / max((counts > 0).sum(), 1)
        weights = np.divide(per_class, counts, out=np.ones(len(counts)), where=counts > 0)
        return tuple(weights.tolist())
    for name in setting:
        if name not in class_names:
            close = difflib.get_close_matches(name, class_names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"`loss.class_weights` names {name!r}, which is not a class in the data.{hint} Its "
                f"classes: {', '.join(class_names)}."
            )
    return tuple(float(setting.get(name, 1)) for name in class_names)
