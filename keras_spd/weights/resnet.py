"""Arrays of a strided ResNet for ResNet-SPD: all but the stem computes the same."""

import re
from collections.abc import Mapping

from keras_spd.algebra import repeat_for_phases, strided_inputs_to_spd, strided_to_spd
from keras_spd.typing import Array


def arrays_for_spd(
    arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Returns the arrays of a trained ResNet as a ResNet-SPD needs them.

    Residual branches are exact: the batch norm behind a space-to-depth has the old one's values for
    each phase, and the convolution behind it reads phase (0, 0) alone. A strided shortcut is
    copied, or becomes an SPD-Conv. The stem is left out: a 3x3 convolution and ReLU are no 2x2
    patches and SiLU, whatever the weights.

    Args:
        arrays: Weights by the paths of their variables.
        shapes: Shapes of the variables of the ResNet to fill, by path. If it is none of SPD, or the
            arrays are of one already, nothing is changed.
    """
    if "stem_conv/kernel" not in arrays or "stem_conv/conv/kernel" not in shapes:
        return dict(arrays)
    result = {path: array for path, array in arrays.items() if not path.startswith("stem_")}
    for path, shape in shapes.items():
        array = result.get(path)
        if path.endswith("_shortcut_conv/conv/kernel"):
            former = result.pop(path.replace("/conv/kernel", "/kernel"), None)
            if former is not None:
                result[path] = strided_to_spd(former, 2)
        elif array is None or array.shape == shape:
            continue
        elif re.search(r"_bn\d/", path) and 4 * array.shape[0] == shape[0]:
            result[path] = repeat_for_phases(array)
        elif array.ndim == 4 and 4 * array.shape[2] == shape[2]:
            result[path] = strided_inputs_to_spd(array)
    return result
