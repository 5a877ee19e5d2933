"""Parses and checks command-line arguments without importing Keras."""

import pathlib

from keras_spd.cli import completion

LONGEST_SIDE = 16384  # pixels; a network at that size takes tens of GB already


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Reads `640` or `480x640`, with sides of at most `LONGEST_SIDE`."""
    if text is None:
        return None
    try:
        sides = tuple(int(side) for side in text.lower().split("x"))
    except ValueError:
        sides = ()
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError(
            "A size must be one or two positive integers, such as 640 or 480x640 (HxW). "
            f"Received: {text!r}."
        )
    if max(sides) > LONGEST_SIDE:
        raise ValueError(
            f"A size has sides of at most {LONGEST_SIDE} pixels. Received: {text!r}. For larger "
            "images, use tiles: `--tile 640`."
        )
    return (sides[0], sides[-1])


def parse_tile(text: str | None, overlap: float | None) -> tuple[int, int] | None:
    """Reads the size of a tile; `overlap` is only accepted with one."""
    if overlap is not None and text is None:
        raise ValueError("`--overlap` is the overlap of tiles and needs `--tile`.")
    return parse_image_size(text)


def parse_validation(text: str | None) -> str | float | None:
    """Reads a fraction such as `0.1`; anything else is a path or a split."""
    if text is not None and pathlib.Path(text).exists():
        return text  # a folder called 2024
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def text(value: object) -> str | None:
    """Returns a path or an enumeration member as text, and `None` unchanged."""
    return None if value is None else str(value)


def model_name(network: str | None, file: pathlib.Path | None) -> str | None:
    """Returns the name of a network, or the path of a model."""
    if network and file:
        raise ValueError(
            "Give either the name of a network or `--model`, not both. "
            f"Received: {network} and {file}."
        )
    return network or text(file)


def parse_class_map(pairs: list[str] | None) -> dict[str, str] | None:
    """Reads a list of `CLASS=OTHER`; `None` if it is empty."""
    split = [text.partition("=") for text in pairs or ()]
    if wrong := ["".join(parts) for parts in split if not all(parts)]:
        raise ValueError(f"`--class-map` takes CLASS=OTHER. Received: {', '.join(wrong)}.")
    return {ours.strip(): theirs.strip() for ours, _, theirs in split} or None


def require_files(paths: list[pathlib.Path]) -> None:
    """Raises a `ValueError` for a path that does not exist."""
    for path in paths:
        if not path.exists():
            raise ValueError(f"There is no file {path}.")


def require_weights(weights: pathlib.Path) -> None:
    """Raises a `ValueError` unless `weights` is a file, a shipped name or an `hf://` address."""
    from keras_spd.weights.presets import NO_IMAGENET, find_named

    on_hub = str(weights).startswith("hf:/")
    if on_hub or weights.exists() or find_named(weights):
        return
    if str(weights) == "imagenet":
        raise ValueError(NO_IMAGENET)
    raise ValueError(
        f"There is no file {weights}, and there are no weights of that name. "
        f"`keras-spd list` has: {', '.join(completion.weights(''))}."
    )
