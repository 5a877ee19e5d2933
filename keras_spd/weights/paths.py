"""The paths by which files of weights name variables."""

from collections.abc import Iterable
from typing import Any


def variables_by_path(layers: Iterable[Any]) -> dict[str, Any]:
    """Returns the variables of layers by path, starting at the layer: `"stem_conv/kernel"`.

    Keras' own paths start with the name scopes that the layer was built in.

    Args:
        layers: Keras layers, such as `model.layers`.
    """
    found = {}
    for layer in layers:
        for variable in layer.variables:
            start = f"/{variable.path}".find(f"/{layer.name}/")
            found[variable.path[max(start, 0) :]] = variable
    return found
