"""Converts a strided ResNet's weights into a ResNet-SPD's, exactly except for the stem."""

import re
from collections.abc import Mapping

from keras_spd.algebra import repeat_for_phases, strided_inputs_to_spd, strided_to_spd
from keras_spd.typing import Array


def arrays_for_spd(
    arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Converts the arrays of a trained strided ResNet into those of a ResNet-SPD.

    Residual branches compute exactly the same: the batch norm after a space-to-depth repeats its
    values for each phase, and the next convolution only reads phase (0, 0). A strided shortcut is
    copied, or becomes an SPD-Conv. The stem is skipped: no weights make 2x2 patches with SiLU
    compute a 3x3 convolution with ReLU.

    Args:
        arrays: `{path of a variable: array}` of the trained network.
        shapes: `{path of a variable: shape}` of the network to load into.

    Returns:
        The converted arrays. They are unchanged if the network to load into is strided, or the
        arrays are from a ResNet-SPD.
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
