"""A web page to try models: drop an image, see what each of them finds in it.

It is made with Gradio (`pip install "keras_spd[web]"`), which is imported when the page is built.
The page is for this machine alone, works offline, and sends nothing anywhere.
"""

import collections
import dataclasses
import os
import pathlib

import numpy as np

from keras_spd import data, predict
from keras_spd.applications import Detector
from keras_spd.images import draw_detections
from keras_spd.images.read import read_image
from keras_spd.weights import list_models

_LOWEST = 0.05  # confidence; what is less sure cannot be shown
_READABLE = 640  # pixels; smaller images are enlarged, so that names fit
_CELLS = (36, 6, 6)  # red and white cells and platelets on the example sheet


def default_models(folder="demo"):
    """Returns what the page shows by default.

    Args:
        folder: Path of a folder with a `model.keras`, such as that of `keras-spd demo`.

    Returns:
        List of names and paths: the weights that come with the package, and the model in the
        folder, if there is one.
    """
    trained = pathlib.Path(folder) / "model.keras"
    names: list = [preset.name for preset in list_models()]
    return names + ([trained] if trained.is_file() else [])


def build_page(paths):
    """Builds the page.

    Detectors share one tab, classifiers another; in a tab, all models get the same image.

    Args:
        paths: Paths of `.keras` files, and names of `keras_spd.list_models`.

    Returns:
        `gradio.Blocks`; its `launch` serves it.

    Raises:
        ImportError: If Gradio is not installed.
        ValueError: If there is no model, one cannot be loaded, or one is neither a `Detector` nor
            a classifier that knows how its images are normalised.

    Example:

    >>> keras_spd.web.build_page(["runs/spd/model.keras", "runs/strided/model.keras"]).launch()
    """
    gr = _gradio()
    models = predict.load_models(paths)
    if not models:
        raise ValueError("There is no model to show. Give at least one path or name.")
    notes = dict(zip(models, map(_note, paths), strict=True))
    predictors, classifiers = {}, {}
    for name, model in models.items():
        if isinstance(model, Detector):
            threshold = min(_LOWEST, model.decoder.confidence_threshold)
            predictors[name] = predict.Predictor(
                model, batch_size=1, confidence_threshold=threshold
            )
        else:
            classifiers[name] = predict.Classifier(model, batch_size=1)
    with gr.Blocks(title="keras_spd", analytics_enabled=False) as page:
        gr.Markdown(
            "## keras_spd: try a model\nDrop an image: it stays on this machine. "
            "`keras-spd demo --web --weights A --weights B` shows models of your own side by side."
        )
        with gr.Tabs():
            if predictors:
                with gr.Tab("Find objects"):
                    _detector_tab(gr, predictors, notes)
            if classifiers:
                with gr.Tab("Name what an image shows"):
                    _classifier_tab(gr, classifiers, notes)
    return page


def serve(paths, port=None, say=print):
    """Serves the page on this machine, at 127.0.0.1, until it is interrupted.

    Args:
        paths: As in `build_page`.
        port: Integer; `None` for the first free one from 7860.
        say: Function that takes a line of progress.

    Raises:
        ImportError, ValueError: As `build_page`, or if the port is taken.
    """
    page = build_page(paths)
    try:
        _, address, _ = page.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            **_looks(),
        )
    except OSError as error:
        raise ValueError(f"Cannot serve the page: {error}") from error
    say(f"The page is at {address} (Ctrl+C ends it).")
    page.block_thread()


def find_objects(predictors, image, confidence):
    """Returns for each predictor a picture with boxes and a line of text, or `None` and `""`."""
    results: list = []
    for predictor in predictors.values():
        if image is None:
            results += [None, ""]
            continue
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        [found] = predictor([pixels])
        found = found.select(found.confidence >= confidence)
        counts = collections.Counter(found.name(int(label)) for label in found.classes)
        kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        noun = "object" if len(found) == 1 else "objects"
        zoom = max(_READABLE // max(pixels.shape), 1)
        shown = dataclasses.replace(found, boxes=found.boxes * zoom)
        pixels = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
        results += [
            np.asarray(draw_detections(pixels, shown)),
            f"{len(found)} {noun}" + (f": {kinds}" if kinds else ""),
        ]
    return results


def name_classes(classifiers, image):
    """Returns for each classifier `{class name: probability}` of the five most probable."""
    if image is None:
        return [None] * len(classifiers)
    found = [classifier([image])[0] for classifier in classifiers.values()]
    return [{entry["name"]: entry["confidence"] for entry in each.to_json()} for each in found]


def example_sheet():
    """Returns 48 of the package's test cells as one image, `(192, 256, 3)`."""
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


def _cells():
    [(images, labels)] = data.load_blood_cells("test").batches(614)
    return np.asarray(images).astype("uint8"), np.asarray(labels)


def _knows_cells(model):
    return "RBC" in (model.info.class_names or ())


def _detector_tab(gr, predictors, notes):
    with gr.Row():
        with gr.Column(scale=1):
            image = _image_input(gr)
            confidence = gr.Slider(
                _LOWEST, 0.95, 0.25, step=0.05, label="Smallest confidence of a box"
            )
            if any(_knows_cells(predictor.model) for predictor in predictors.values()):
                gr.Examples(
                    [[example_sheet()]],
                    [image],
                    label="Cells that come with the package",
                )
        with gr.Column(scale=2), gr.Row():
            outputs = []
            for name in predictors:
                with gr.Column(min_width=300):
                    gr.Markdown(f"### {name}\n{notes[name]}")
                    outputs.append(
                        gr.Image(
                            show_label=False,
                            format="png",
                            interactive=False,
                            buttons=["download", "fullscreen"],
                        )
                    )
                    outputs.append(gr.Markdown())
    gr.on(
        [image.change, confidence.change],
        lambda path, least: find_objects(predictors, path, least),
        [image, confidence],
        outputs,
        api_name="find_objects",
        trigger_mode="always_last",  # the slider calls while it moves
    )


def _classifier_tab(gr, classifiers, notes):
    with gr.Row():
        with gr.Column(scale=1):
            image = _image_input(gr)
            if any(map(_knows_cells, classifiers.values())):
                images, labels = _cells()
                gr.Examples(
                    [[images[np.flatnonzero(labels == label)[3]]] for label in range(3)],
                    [image],
                    label="Cells that come with the package",
                )
        with gr.Column(scale=2), gr.Row():
            outputs = []
            for name in classifiers:
                with gr.Column(min_width=300):
                    gr.Markdown(f"### {name}\n{notes[name]}")
                    outputs.append(gr.Label(label=f"Classes of {name}", num_top_classes=5))

    def answer(path):
        found = name_classes(classifiers, path)
        return found if len(found) > 1 else found[0]  # Gradio's way with one output

    image.change(answer, [image], outputs, api_name="name_classes")


def _image_input(gr):
    # The file itself, so that it is read here as everywhere in the package.
    return gr.Image(
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        label="Image",
        height=360,
        elem_classes="given",
    )


def _note(path):
    """What is known of a model, in a line."""
    for preset in list_models():
        if preset.name == str(path):
            scores = ", ".join(
                f"{name.replace('_', ' ')} {100 * preset.scores[name]:.1f}"
                for name in ("AP", "AP50", "test_accuracy")
                if name in preset.scores
            )
            return f"{preset.architecture}, trained on {preset.dataset}: {scores}"
    return f"`{path}`"


def _gradio():
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise ImportError('The web page needs `pip install "keras_spd[web]"`.') from error
    return gradio


def _looks():
    """Arguments of `launch`: the system's fonts, no links to elsewhere."""
    gr = _gradio()
    theme = gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    # Small images fill their place, as sharp squares.
    css = (
        ".given img { width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated }"
    )
    return {"theme": theme, "css": css, "footer_links": [], "ssr_mode": False}
