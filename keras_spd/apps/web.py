"""A web page to try models: drop an image and see the results of each model.

It uses Gradio (`pip install "keras_spd[web]"`), which is imported when the page is built. By
default only this machine can use the page; it works offline and sends no data. The page is also an
API; `gradio_client.Client(address).view_api()` lists its functions.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_spd import data, predict
from keras_spd.applications import Detector
from keras_spd.apps.local_only import LocalOnly
from keras_spd.apps.web_answers import find_objects, name_classes
from keras_spd.apps.web_inputs import LOWEST, confidence_input, errors_shown, image_input
from keras_spd.predict import Classifier, Predictor
from keras_spd.weights import find_named, list_models

_LARGEST = 50_000_000  # bytes of an upload
_CACHE = (600, 3600)  # seconds: uploads and pictures are deleted every 10 minutes, after an hour
_CELLS = (36, 6, 6)  # red and white cells and platelets on the example sheet


def default_models(folder: str | os.PathLike = "demo") -> list:
    """Returns the models that the page shows by default.

    Args:
        folder: Path of a folder with a `model.keras`, such as that of `keras-spd demo`.

    Returns:
        List of names and paths: the shipped weights, and the model in the folder, if there is one.
    """
    trained = pathlib.Path(folder) / "model.keras"
    names: list = [preset.short_name for preset in list_models()]
    return names + ([trained] if trained.is_file() else [])


def build_page(paths: Sequence[str | os.PathLike]) -> Any:
    """Builds the page.

    Detectors share one tab, classifiers another; in a tab, all models get the same image.

    Args:
        paths: Paths of `.keras` files, and names of `keras_spd.list_models`.

    Returns:
        `gradio.Blocks`; its `launch` serves it.

    Raises:
        ImportError: If Gradio is not installed.
        ValueError: If `paths` is empty, or a model cannot be loaded or is neither a `Detector` nor
            a classifier that defines how its images are normalised.

    Example:

    >>> from keras_spd.apps.web import build_page
    >>> build_page(["runs/spd/model.keras", "runs/strided/model.keras"]).launch()
    """
    gr = _gradio()
    models = predict.load_models(paths)
    if not models:
        raise ValueError("`paths` is empty; pass at least one path or name.")
    notes = dict(zip(models, map(_note, paths), strict=True))
    predictors: dict[str, Predictor] = {}
    classifiers: dict[str, Classifier] = {}
    for name, model in models.items():
        if isinstance(model, Detector):
            threshold = min(LOWEST, model.decoder.confidence_threshold)
            predictors[name] = Predictor(model, batch_size=1, confidence_threshold=threshold)
        else:
            classifiers[name] = Classifier(model, batch_size=1)
    with gr.Blocks(delete_cache=_CACHE, title="keras_spd", analytics_enabled=False) as page:
        gr.Markdown(
            "## keras_spd: try a model\nDrop an image: it stays on this machine. "
            "`keras-spd demo --web --weights A --weights B` shows your own models side by side."
        )
        with gr.Tabs():
            if predictors:
                with gr.Tab("Find objects"):
                    _detector_tab(gr, predictors, notes)
            if classifiers:
                with gr.Tab("Classify images"):
                    _classifier_tab(gr, classifiers, notes)
    return page


def serve(
    paths: Sequence[str | os.PathLike],
    port: int | None = None,
    *,
    host: str = "127.0.0.1",
    say: Callable[[str], object] = print,
) -> None:
    """Serves the page until it is interrupted.

    Only requests to a loopback name or `host` are answered; requests from other sites are refused.

    Args:
        paths: As in `build_page`.
        port: Port, 1 to 65535; `None` for the first free one from 7860.
        host: Address or name of this machine to serve at. Unless it is a loopback address, others
            can use the page, which has no password.
        say: Function that takes a line of progress.

    Raises:
        ImportError, ValueError: As in `build_page`, or if the port is taken.
    """
    page = build_page(paths)
    try:
        _, address, _ = page.launch(
            server_port=port, show_error=True, prevent_thread_lock=True, **_launch_options(host)
        )
    except OSError as error:
        raise ValueError(
            f"Cannot serve the page at {host}, port {port or 'from 7860'}: the port is taken or "
            "not allowed, or the host is not this machine. Pass another `--port` or `--host`."
        ) from error
    say(f"The page is at {address} (press Ctrl+C to stop).")
    # Not `page.block_thread()`, which prints lines of its own.
    with contextlib.suppress(KeyboardInterrupt):
        while page.is_running:
            time.sleep(0.1)
    page.close(verbose=False)


def example_sheet() -> np.ndarray:
    """Returns 48 of the shipped test cells as one image of shape `(192, 256, 3)`."""
    images, labels = _cells()
    rng = np.random.default_rng(1)
    chosen = np.concatenate(
        [
            rng.choice(np.flatnonzero(labels == label), count, replace=False)
            for label, count in enumerate(_CELLS)
        ]
    )
    rows = images[rng.permutation(chosen)].reshape(6, 8, *images.shape[1:])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def _cells() -> tuple[np.ndarray, np.ndarray]:
    [(images, labels)] = data.load_blood_cells("test").batches(614)
    return np.asarray(images).astype("uint8"), np.asarray(labels)


def _has_cells(model: keras.Model) -> bool:
    """Returns whether blood cells are among a model's classes."""
    return "RBC" in (model.info.class_names or ())


def _detector_tab(gr: Any, predictors: dict[str, Predictor], notes: dict[str, str]) -> None:
    with gr.Row():
        with gr.Column(scale=1):
            image = image_input(gr)
            confidence = confidence_input(gr)
            if any(_has_cells(predictor.model) for predictor in predictors.values()):
                gr.Examples(
                    [[example_sheet()]],
                    [image],
                    label="Example cells",
                )
        with gr.Column(scale=2), gr.Row():
            outputs = []
            for name in predictors:
                with gr.Column(min_width=300):
                    gr.Markdown(f"### {name}\n{notes[name]}")
                    picture = gr.Image(
                        label=f"{name} picture",
                        show_label=False,
                        format="png",
                        interactive=False,
                        buttons=["download", "fullscreen"],
                    )
                    summary = gr.Markdown(label=f"{name} summary")
                    with gr.Accordion("Boxes as JSON", open=False):
                        boxes = gr.JSON(label=f"{name} detections", show_label=False)
                    outputs += [picture, summary, boxes]

    def answer(image: Any, confidence: float) -> list:
        with errors_shown(gr):
            return find_objects(predictors, image, confidence)

    gr.on(
        [image.change, confidence.change],
        answer,
        [image, confidence],
        outputs,
        api_name="find_objects",
        trigger_mode="always_last",  # the slider calls while it moves
    )


def _classifier_tab(gr: Any, classifiers: dict[str, Classifier], notes: dict[str, str]) -> None:
    with gr.Row():
        with gr.Column(scale=1):
            image = image_input(gr)
            if any(_has_cells(classifier.model) for classifier in classifiers.values()):
                images, labels = _cells()
                gr.Examples(
                    [[images[np.flatnonzero(labels == label)[3]]] for label in range(3)],
                    [image],
                    label="Example cells",
                )
        with gr.Column(scale=2), gr.Row():
            outputs = []
            for name in classifiers:
                with gr.Column(min_width=300):
                    gr.Markdown(f"### {name}\n{notes[name]}")
                    outputs.append(gr.Label(label=f"{name} classes", num_top_classes=5))

    def answer(image: Any) -> Any:
        with errors_shown(gr):
            found = name_classes(classifiers, image)
        return found if len(found) > 1 else found[0]  # Gradio's way with one output

    image.change(answer, [image], outputs, api_name="name_classes")


def _note(path: str | os.PathLike) -> str:
    """Returns a line about a model: training data and scores, or its path."""
    preset = find_named(path)
    if preset is None:
        return f"`{path}`"
    scores = ", ".join(
        f"{name.replace('_', ' ')} {100 * preset.scores[name]:.1f}"
        for name in ("AP", "AP50", "test_accuracy")
        if name in preset.scores
    )
    return f"{preset.architecture}, trained on {preset.dataset}: {scores}"


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ImportError('The web page needs `pip install "keras_spd[web]"`.') from error
    return gradio


def _launch_options(host: str = "127.0.0.1") -> dict[str, Any]:
    """Returns arguments of `launch`: access control, system fonts, no external links."""
    gr = _gradio()
    from starlette.middleware import Middleware  # a dependency of Gradio

    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    # Small images are enlarged, with sharp pixels.
    css = (
        ".given img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated }"
    )
    return {
        "server_name": host,
        "share": False,
        "quiet": True,
        "max_file_size": _LARGEST,  # for the browser; `LocalOnly` enforces it
        "app_kwargs": {"middleware": [Middleware(LocalOnly, host=host, largest=_LARGEST)]},
        "theme": theme,
        "css": css,
        "footer_links": [],
        "ssr_mode": False,
    }
