"""The demo for classifiers: build, train, evaluate, export, verify."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_spd import applications, data, export, training
from keras_spd.apps.demo import prepare
from keras_spd.files import whole_file
from keras_spd.images.fonts import load_font
from keras_spd.typing import Array

_BATCH_SIZE = 16  # so that six epochs of 817 images have enough steps


def run_classifier_demo(
    folder: str | os.PathLike, *, epochs: int | None = None, say: Callable[[str], Any]
) -> dict[str, Any]:
    """Trains ResNet18-SPD on the blood cells in the package and exports it to TFLite.

    Needs no download.

    Args:
        folder: Path of the folder for the results. An earlier demo in it is replaced.
        epochs: Integer; defaults to the recipe's.
        say: Function that takes a line of progress.

    Returns:
        Dictionary with `test_accuracy`, `max_difference` and `agreement` of the TFLite file with
        the Keras model, and the paths `model`, `tflite` and `picture`.

    Raises:
        ValueError: If `folder` is not empty and holds no earlier demo, or the TFLite file and the
            Keras model disagree.
    """
    folder = prepare(folder)
    recipe = training.load_recipe(
        "demo", overrides={"batch_size": _BATCH_SIZE, "data.validation": 0.1}
    )
    if epochs is not None:
        recipe = recipe.model_copy(update={"epochs": epochs})
    test = data.load_blood_cells("test")

    say(f"1. Train {recipe.model.name} on 32x32 images of blood cells: {folder}/")
    model = training.train(recipe, folder, test_data=test)
    for checkpoint in ("state.weights.h5", "best.weights.h5"):
        (folder / checkpoint).unlink()  # 0.3 GB that only an unfinished run needs
    results = json.loads((folder / "results.json").read_text())
    say(f"2. Test accuracy on {test.num_images} cells: {results['test_accuracy']:.4f}")

    tflite = export.export_tflite(model, folder / "model.tflite")
    say(f"3. Exported {tflite}: {tflite.stat().st_size / 2**20:.1f} MiB")

    pixels = np.concatenate([images for images, _ in test.batches(64)])
    comparison = export.verify_tflite(tflite, model, pixels)
    say(
        f"4. TFLite compared with Keras on {comparison.images} images: largest difference "
        f"{comparison.max_difference:.1e}, same class for {comparison.agreement:.2%}"
    )

    labels = np.concatenate([labels for _, labels in test.batches(64)])
    picture = folder / "predictions.png"
    drawn = _draw(pixels, labels, export.run_tflite(tflite, pixels), test.class_names)
    with whole_file(picture) as unfinished:
        drawn.save(unfinished)
    say(f"5. Predictions of the TFLite file: {picture}")
    return {
        "test_accuracy": results["test_accuracy"],
        "max_difference": comparison.max_difference,
        "agreement": comparison.agreement,
        "model": folder / "model.keras",
        "tflite": tflite,
        "picture": picture,
    }


def _draw(
    pixels: Array,
    labels: Array,
    predictions: Array,
    class_names: Sequence[str],
    *,
    rows: int = 4,
    columns: int = 8,
    zoom: int = 4,
) -> Image.Image:
    """Draws a grid of images with the predicted names, and the true names if they differ."""
    chosen = np.random.default_rng(0).permutation(len(pixels))[: rows * columns]
    side, text_line, legend_height = pixels.shape[1] * zoom, 15, 24
    cell_width, cell_height = side + 4, side + 2 * text_line + 6
    size = (columns * cell_width, legend_height + rows * cell_height)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = load_font("", 12)
    legend = "Predicted class and probability. Green: correct. Red: wrong, with the true class."
    draw.text((4, 4), legend, fill="black", font=font)
    for position, index in enumerate(chosen):
        row, column = divmod(position, columns)
        left, top = column * cell_width, legend_height + row * cell_height
        image = Image.fromarray(pixels[index].astype("uint8"))
        canvas.paste(image.resize((side, side), Image.Resampling.NEAREST), (left, top))
        [[(label, name, score)]] = applications.decode_predictions(
            predictions[index : index + 1], class_names, top=1
        )
        true = labels[index]
        text = f"{name} {score:.2f}" + ("" if label == true else f"\ntrue: {class_names[true]}")
        colour = "green" if label == true else "red"
        draw.text((left + 3, top + side + 1), text, fill=colour, font=font, spacing=1)
    return canvas
