"""The demo: a detector for small objects, before and after fine-tuning."""

import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from keras_spd import applications, data, export, predict, surgery, training
from keras_spd.data.detection.packaged import copy_small_cells
from keras_spd.export.exported_models import load_exported
from keras_spd.export.tflite import tensorflow
from keras_spd.files import whole_file
from keras_spd.images.draw import class_colour, draw_boxes
from keras_spd.images.fonts import load_font
from keras_spd.training.run_folder import RunFolder

_MARK = ".demo"  # marks a demo's folder; a run folder of `train` has all the other files
_RESULTS = ("cells", "model.tflite", "found.png", "predictions.png")  # beside those of a run
_WEIGHTS = "bccd"
_SIDE = 96  # of the network's input, pixels
_EPOCHS = 24
# AP of the pair, each trained for 40 epochs on circuit boards: benchmarks/spd_or_strides.md.
BOARDS = {"spd": 37.2, "strided": 29.0, "wider": 37.9}  # the last has SPD's multiply-adds
_ROWS, _ZOOM, _LINE = 3, 3, 22  # of the picture: images, enlargement, pixels of a line of text


def run_demo(
    folder: str | os.PathLike, *, epochs: int | None = None, say: Callable[[str], Any]
) -> dict[str, Any]:
    """Fine-tunes the shipped detector on small images and exports it to TFLite.

    Needs no download; about two minutes on two CPU cores.

    Args:
        folder: Path of the folder for the results. An earlier demo in it is replaced.
        epochs: Integer; defaults to 24.
        say: Function that takes a line of progress.

    Returns:
        Dictionary with `AP` before and after, `max_difference` (pixels) and `agreement` of the
        TFLite file with the Keras model, and the paths `model`, `tflite` and `picture`.

    Raises:
        ValueError: If `folder` is not empty and holds no earlier demo, or the TFLite file and the
            Keras model disagree.
    """
    folder = prepare(folder)
    cells = folder / "cells"
    copy_small_cells(cells)
    train, test = (data.load_detection(cells / f"{split}.json") for split in ("train", "test"))
    say(
        f"1. {cells}: {train.num_images} training and {test.num_images} test images of blood "
        f"cells; in {_SIDE}x{_SIDE} images, a red cell is 15 pixels wide, a platelet 6"
    )
    shipped = predict.load_model(_WEIGHTS)
    before = predict.evaluate(shipped, test, _SIDE).metrics["AP"]
    found = [_find(shipped, test)]
    say(f"2. Before: the shipped weights, trained on larger images: AP {100 * before:.1f}")

    recipe = training.load_recipe("finetune_detection", overrides=_settings(epochs))
    duration = ", about a minute" if recipe.epochs == _EPOCHS else ""
    say(f"3. Fine-tune them for {recipe.epochs} epochs{duration}: {folder}/log.csv")
    model = training.train(recipe, folder, train_data=train, test_data=test, verbose=0)
    for checkpoint in ("state.weights.h5", "best.weights.h5"):
        (folder / checkpoint).unlink()  # only an unfinished run needs them
    after = json.loads((folder / "results.json").read_text())["AP"]
    say(f"   After: AP {100 * after:.1f}")

    tflite = export.export_tflite(model, folder / "model.tflite")
    images = _images(test)
    comparison = export.verify_tflite(tflite, model, images)
    say(
        f"4. {tflite}, {tflite.stat().st_size / 1e6:.1f} MB, compared with Keras: "
        f"{comparison.agreement:.1%} of {comparison.compared} boxes are the same, to "
        f"{comparison.max_difference:.1g} pixels"
    )
    runtime = load_exported(tflite)
    found.append(_find(runtime, test))
    for line in _beside_strided(model, runtime, images):
        say(line)

    picture = folder / "found.png"
    drawn = _draw(test, found, model.info.class_names)
    with whole_file(picture) as unfinished:
        drawn.save(unfinished)
    say(f"6. Look at {picture}: before, after, and the annotated cells")
    labels = f"--train {cells}/train.json --test {cells}/test.json --image-size {_SIDE}"
    say("\nNext, with these cells or with images of your own:")
    say(f"  keras-spd predict {cells}/images --weights {folder}/model.keras")
    say(f"  keras-spd check-data {cells}/train.json --image-size {_SIDE}")
    say(f"  keras-spd train yolov5_spd_n --weights {_WEIGHTS} {labels} --run runs/cells")
    return {
        "AP": (before, after),
        "max_difference": comparison.max_difference,
        "agreement": comparison.agreement,
        "model": folder / "model.keras",
        "tflite": tflite,
        "picture": picture,
    }


def prepare(folder: str | os.PathLike) -> pathlib.Path:
    """Creates the folder of a demo, and deletes the files of an earlier demo in it.

    Raises:
        ValueError: If the folder holds other files, or the demo's TFLite file cannot be written.
    """
    tensorflow("TFLite files")  # or an error
    folder = pathlib.Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / _MARK).is_file():
            raise ValueError(f"{folder} is not empty and holds no demo. Choose another folder.")
        for path in (*RunFolder(folder).files, *(folder / name for name in _RESULTS)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    return folder


def _settings(epochs: int | None) -> dict[str, Any]:
    epochs = _EPOCHS if epochs is None else epochs
    return {
        "model.weights": _WEIGHTS,
        "data.image_size": (_SIDE, _SIDE),
        "precision": "float32",  # bfloat16 is slow on CPUs that do not compute with it
        "batch_size": 8,
        "augmentation.mosaic": 0.0,  # and little else: short runs gain nothing from hard images
        "augmentation.scale": 0.2,
        "optimizer.learning_rate": 0.005,
        "epochs": epochs,
        "evaluate_every": epochs,
    }


def _images(test: data.DetectionData) -> np.ndarray:
    size = (_SIDE, _SIDE)
    return np.stack([data.letterbox(image.read(), size)[0] for image in test.images])


def _find(model: Any, test: data.DetectionData) -> list[predict.Detections]:
    predictor = predict.Predictor(model, _SIDE, batch_size=1)
    return predictor([image.read() for image in test.images[:_ROWS]])


def _beside_strided(model: Any, runtime: Any, images: np.ndarray) -> list[str]:
    """Returns lines that compare SPD with its strided twin in cost, time and AP."""
    strided = applications.YOLOV5SPD("n", classes=model.num_classes, downsampling="strided")
    lines = [
        "5. SPD against its strided twin, which computes 1 of 4 positions when it downsamples:",
        "             multiply-adds  ms per image, here  AP on circuit boards, one run each",
    ]
    for kind, detector in {"spd": model, "strided": strided}.items():
        cost = surgery.count_multiply_adds(detector, (_SIDE, _SIDE)) / 1e9
        milliseconds = _time(detector, images)
        lines.append(f"   {kind:<10}{cost:>11.3f} G{milliseconds:>20.1f}{BOARDS[kind]:>20}")
    lines.append(f"   spd, TFLite{_time(runtime, images):>32.1f}")
    wider = "   A strided network 1.4 times as wide costs as much as SPD, and reached"
    lines.append(f"{wider} {BOARDS['wider']}")
    return lines


def _time(model: Any, images: np.ndarray, repeats: int = 20) -> float:
    """Returns the median time of one image, in milliseconds."""
    seconds = []
    for image in np.resize(images, (repeats + 2, *images.shape[1:])):
        start = time.perf_counter()
        model.predict_on_batch(image[None])
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds[2:]))  # the first calls warm up


def _draw(
    test: data.DetectionData,
    found: list[list[predict.Detections]],
    class_names: tuple[str, ...],
) -> Image.Image:
    """Draws the first test images with the boxes before, after, and annotated, side by side."""
    height, width = (side * _ZOOM for side in test.images[0].size_hw)
    titles = ("Before", "After fine-tuning (TFLite)", "Annotated")
    canvas = Image.new("RGB", (3 * (width + 4), _ROWS * (height + 4) + 2 * _LINE), "white")
    draw = ImageDraw.Draw(canvas)
    font = load_font("", 14)
    for column, title in enumerate(titles):
        draw.text((column * (width + 4) + 2, 2), title, fill="black", font=font)
    columns: list[Any] = [*found, test.images]
    for row, (image, *results) in enumerate(zip(test.images, *columns, strict=False)):
        whole = Image.fromarray(image.read()).resize((width, height), Image.Resampling.BICUBIC)
        for column, result in enumerate(results):
            tile = whole.copy()
            draw_boxes(tile, result.boxes * _ZOOM, [int(label) for label in result.classes])
            canvas.paste(tile, (column * (width + 4), _LINE + row * (height + 4)))
    for label, name in enumerate(class_names):
        place = (2 + 120 * label, canvas.height - _LINE + 2)
        draw.text(place, name, fill=class_colour(label), font=font)
    return canvas
