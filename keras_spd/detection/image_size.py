"""The image sizes that a detector accepts."""

from collections.abc import Sequence
from typing import Any

from keras_spd.images.sizes import parse_sides
from keras_spd.images.tiles import network_size
from keras_spd.typing import Shape


def check_image_sides(shape: Shape, stride: int) -> None:
    """Raises a `ValueError` unless known height and width are multiples of the largest stride."""
    if any(side is not None and side % stride for side in shape[1:3]):
        raise ValueError(
            f"Height and width must be multiples of {stride}, the largest stride of the detector. "
            f"Received: shape {tuple(shape)}. Pass another `input_shape`, or resize the images, "
            "e.g. with `image_size=` of `keras_spd.data` or with `keras_spd.Predictor`."
        )


def standardize_image_size(
    image_size: int | Sequence[int] | None, model: Any, tile: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Returns the image size for a detector as `(height, width)`, in pixels.

    Args:
        image_size: One integer, or two. `None` for the size the detector was trained at, 640 if
            unknown, or, if it was not trained on tiles of this size, for the size of `tile`.
        model: `Detector`, or another object that implements `DetectorProtocol`.
        tile: `(height, width)` of the tiles of larger images, if they are predicted in tiles.

    Raises:
        ValueError: If the stride does not divide both sides, or the detector does not accept the
            size.
    """
    from_tile = image_size is None and tile is not None and tile != model.info.tile
    if from_tile and tile is not None:
        image_size = network_size(tile, model.stride)
    elif image_size is None:
        image_size = model.image_sizes[0] if model.image_sizes else model.info.image_size or 640
    size = check_multiples(image_size, model.stride)
    if model.image_sizes and size not in model.image_sizes:
        raise ValueError(
            f"The detector takes images of {' or '.join(map(str, model.image_sizes))} only "
            f"(height, width). Received: image_size={image_size!r}."
            + (" It was taken from `tile`: pass `image_size`." if from_tile else "")
        )
    return size


def check_multiples(image_size: int | Sequence[int], stride: int = 32) -> tuple[int, int]:
    """Returns `(height, width)`, or raises a `ValueError` unless `stride` divides both."""
    size = parse_sides(image_size, stride)
    if size is None or size[0] % stride or size[1] % stride:
        raise ValueError(
            f"`image_size` must be one or two multiples of {stride}, the largest stride of the "
            f"detector, e.g. {10 * stride}. Received: image_size={image_size!r}."
        )
    return size
