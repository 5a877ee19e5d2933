"""The order in which space-to-depth stacks the pixels of a patch; NumPy only.

Our one convention is that of `tf.nn.space_to_depth`: phases row by row, each with all its
channels, so that channel `(row * scale + column) * channels + c` is channel `c` of pixel
`(row, column)`. The authors' PyTorch code stacks them column by column. Whatever reads the output
of a space-to-depth has its input channels reordered when authors' weights are loaded.
"""

import numpy as np


def columns_to_rows(array, *, axis, scale=2):
    """Reorders stacked phases from column by column (the authors) to row by row (ours).

    Args:
        array: NumPy array, for example a convolution kernel or the gain of a batch norm.
        axis: The axis that holds `scale**2` phases, each with all channels of the layer before
            the space-to-depth.
        scale: The scale of the space-to-depth.

    Returns:
        The array of the same shape, with `axis` reordered. The function is its own inverse.

    Raises:
        ValueError: If the length of `axis` is not a multiple of `scale**2`.

    Example:

    >>> columns_to_rows(np.array(["00", "10", "01", "11"]), axis=0)
    array(['00', '01', '10', '11'], dtype='<U2')

    Source: `space_to_depth.forward` in `ResNet50-SPD/models/resnet50_spd.py` of LabSAINT/SPD-Conv.
    """
    array = np.asarray(array)
    if array.shape[axis] % scale**2:
        raise ValueError(
            f"Axis {axis} must hold a multiple of scale**2 = {scale**2} channels. "
            f"Received: array.shape={array.shape}."
        )
    phases = np.moveaxis(array, axis, 0)
    phases = phases.reshape(scale, scale, -1, *phases.shape[1:])
    rows = phases.swapaxes(0, 1).reshape(-1, *phases.shape[3:])
    return np.moveaxis(rows, 0, axis)
