"""Pictures of a run: their content, and axes that a single number does not distort."""

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from keras_spd.images.draw import class_colour
from keras_spd.training.run_plots import (
    _group_lines,
    draw_learning_curves,
    draw_training_images,
)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda figure, *args, **options: figures.append(figure) or save(figure, *args, **options),
    )
    return figures


@pytest.mark.slow
def test_each_loss_of_a_detector_has_its_panel(tmp_path, drawn):
    missing = float("nan")
    log = [
        {
            "epoch": epoch,
            "box_loss": 0.1 / (epoch + 1),
            "loss": 3.0,
            "val_AP": 0.0 if epoch % 2 else missing,
            "val_AP50": missing,
            "val_box_loss": 0.2 if epoch % 2 else missing,
            "val_loss": 2.0 if epoch % 2 else missing,
            "learning_rate": 0.01,
        }
        for epoch in range(4)
    ]
    path = tmp_path / "curves.png"
    path.write_text("of the epoch before")
    draw_learning_curves(log, path)
    [figure] = drawn
    subplots = {axes.get_title(): axes for axes in figure.axes}
    assert list(subplots) == ["loss", "box loss", "scores"]
    lines = {title: [line.get_label() for line in axes.lines] for title, axes in subplots.items()}
    assert lines["box loss"] == lines["loss"] == ["training", "validation"]
    assert lines["scores"] == ["validation AP"]
    validation = subplots["box loss"].lines[1]
    assert validation.get_xydata().tolist() == [[2, 0.2], [4, 0.2]]
    assert subplots["scores"].get_ylim() == (0, 1)
    with Image.open(path) as picture:
        assert picture.width > picture.height
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.slow
def test_one_bad_epoch_flattens_no_curve(tmp_path, drawn):
    values = [2.0, 151228.5, 1.2, 0.8]
    log = [{"epoch": e, "accuracy": 0.5, "loss": 1, "val_loss": v} for e, v in enumerate(values)]
    draw_learning_curves(log, tmp_path / "curves.png")
    loss = drawn[0].axes[0]
    assert loss.get_title() == "loss" and loss.get_yscale() == "log"
    log = [{"epoch": e, "accuracy": 0.5, "loss": loss} for e, loss in enumerate([2.0, 0.0])]
    draw_learning_curves(log, tmp_path / "curves.png")  # a loss of 0 has no logarithm
    assert drawn[1].axes[0].get_yscale() == "linear"


def test_nothing_to_draw(tmp_path):
    for log in ([], [{"epoch": 0, "loss": float("nan"), "accuracy": float("nan")}]):
        draw_learning_curves(log, tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_training_images_keep_their_pixels_and_tell_classes(tmp_path, rng):
    images = rng.integers(0, 200, (6, 320, 640, 3)).astype("float32")
    boxes = np.full((6, 3, 4), -1.0, "float32")
    boxes[:, 0], boxes[:, 1] = (100, 50, 104, 55), (300, 200, 340, 240)
    labels = np.tile([2, 4, -1], (6, 1))
    path = tmp_path / "images.png"
    draw_training_images(images, boxes, path, labels=labels, class_names=tuple("abcde"))
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[1] >= 2 * 640 and pixels.shape[0] > 2 * 320
    assert (pixels[50:55, 100:104] == images[0, 50:55, 100:104]).all()
    assert (pixels[49, 99:105] == class_colour(2)).all()
    assert (pixels[199, 299:341] == class_colour(4)).all()
    legend = {tuple(pixel) for pixel in pixels[-20:].reshape(-1, 3)}
    assert {class_colour(2), class_colour(4)} <= legend and class_colour(0) not in legend


@pytest.mark.parametrize("labels", [None, np.array([1, 0]), np.array([[0.3, 0.7], [1, 0]])])
def test_training_images_of_a_classifier(tmp_path, labels):
    path = tmp_path / "images.png"
    draw_training_images(np.zeros((2, 32, 32, 3)), None, path, labels=labels)
    with Image.open(path) as picture:
        assert picture.width >= 4 * 160 and picture.height >= 160 + 16 * (labels is not None)


def test_what_is_no_score_gets_a_plot_of_its_own():
    rows = [{"epoch": e, "loss": 1.0, "val_AP": 0.5, "temperature": 10.0 + e} for e in range(3)]
    assert list(_group_lines(rows)) == ["loss", "temperature", "scores"]


@pytest.mark.parametrize("channels", [1, 4])
def test_images_that_are_not_rgb_are_drawn(channels, tmp_path, rng):
    images = rng.uniform(0, 255, (2, 16, 16, channels))
    draw_training_images(images, None, tmp_path / "images.png", labels=np.array([0, 1]))
    with Image.open(tmp_path / "images.png") as picture:
        assert len(picture.getcolors(1 << 20)) > 100
