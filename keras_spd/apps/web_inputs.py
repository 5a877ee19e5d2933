"""Inputs of the web page, checked by us: an image file and a confidence."""

import contextlib
from collections.abc import Iterator
from typing import Any

LOWEST, HIGHEST = 0.05, 0.95  # range of the confidence slider


@contextlib.contextmanager
def errors_shown(gr: Any) -> Iterator[None]:
    """Shows bad input on the page instead of logging a traceback."""
    try:
        yield
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error


# Gradio's components are not subclassed: it would write a `.pyi` file beside this one.


def image_input(gr: Any) -> Any:
    """Returns a component whose value is the path of the file as it was uploaded."""
    image = gr.Image(
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        label="Image",
        height=360,
        elem_classes="given",
    )
    decode = image.preprocess

    def preprocess(payload: Any) -> Any:
        if payload is None or payload.path is not None:
            return payload and payload.path  # read here as everywhere in the package
        with errors_shown(gr):
            return decode(payload)  # a data URL

    image.preprocess = preprocess
    return image


def confidence_input(gr: Any) -> Any:
    """Returns a slider from `LOWEST` to `HIGHEST`."""
    slider = gr.Slider(LOWEST, HIGHEST, 0.25, step=0.05, label="Smallest confidence of a box")

    def preprocess(payload: Any) -> float:
        is_number = isinstance(payload, (int, float)) and not isinstance(payload, bool)
        with errors_shown(gr):
            if not (is_number and LOWEST <= payload <= HIGHEST):
                raise ValueError(
                    f"`confidence` must be a number from {LOWEST} to {HIGHEST}. "
                    f"Received: {payload!r}."
                )
        return float(payload)

    slider.preprocess = preprocess
    return slider
