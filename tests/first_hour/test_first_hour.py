"""A newcomer's first hour: the steps of docs/guides/own-data.md, each in its own process.

Images are drawn, each command runs as it is typed, and what it prints and writes is compared with
what a user should see. Standard error only has our own lines. The page is opened in Chromium.
"""

import contextlib
import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

import numpy as np
import pytest
from drawings import write_cells
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Windows has other signals"),
]
TEST_DATA = "cells/test/labels.json"
RUN = "runs/cells"
MODEL = f"{RUN}/model.keras"
BUILDING = "yolov5_spd_n: building the graph, about 20 s."
COST = re.compile(r"yolov5_spd_n: [\d,]+ parameters, \d+\.\d+ G multiply-adds per image\.")
EVALUATED = "The model is evaluated after the last epoch (`evaluate_every`)."
NUMBER = r"\d+(?:\.\d+)?"


class Newcomer:
    """Someone in a folder with images who has not changed any settings."""

    def __init__(self, folder):
        self.folder = folder
        tests = ("TF_CPP_MIN_LOG_LEVEL", "PYTHONWARNINGS", "KERAS_BACKEND", "PYTHONPATH")
        self.environment = {k: v for k, v in os.environ.items() if k not in tests}
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))

    @contextlib.contextmanager
    def start(self, *arguments):
        """Starts a command that Ctrl-C reaches, as in a terminal."""
        with subprocess.Popen(
            [sys.executable, "-m", "keras_spd", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment,
            # Background jobs of a shell ignore SIGINT, and what they start inherits that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *arguments, told=()):
        """Runs a command and returns its output; `told` are all lines of standard error."""
        with self.start(*arguments) as process:
            output, error = process.communicate(timeout=300)
        self.compare(error, told)
        assert process.returncode == 0, output
        assert not {"nan", "inf", "-1.000", "None"} & set(output.split()), output
        return output

    def compare(self, error, told):
        """Compares standard error with lines, some of them patterns."""
        for line, expected in zip(error.splitlines(), told, strict=True):
            assert (
                expected.fullmatch(line) if isinstance(expected, re.Pattern) else line == expected
            )

    def wait_for(self, path, process):
        while process.poll() is None and not (self.folder / path).exists():
            time.sleep(0.02)

    def json(self, path):
        return json.loads((self.folder / path).read_text())


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first hour")  # with a space
    write_cells(folder / "cells" / "train", 16)
    write_cells(folder / "cells" / "test", 8, seed=1)
    return Newcomer(folder)


def stop(newcomer, train):
    """Stops a training by Ctrl-C after its first epoch; returns the command that resumes it."""
    with newcomer.start(*train) as process:
        newcomer.wait_for(f"{RUN}/state.weights.h5", process)  # the first epoch is saved
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    advice = "Stopped. Saved so far: 1 epoch. Resume with: keras-spd "
    newcomer.compare(error, [COST, BUILDING, EVALUATED, "", f"{advice}train --resume --run {RUN}"])
    assert process.returncode == 130
    assert re.match(rf"Epoch 1/2\n2/2 - {NUMBER}s - .*box_loss: {NUMBER} - ", output)
    assert not (newcomer.folder / MODEL).exists()
    return error.splitlines()[-1].removeprefix(advice).split()


@pytest.fixture(scope="module")
def trained(newcomer, request):
    """The newcomer with a fine-tuned detector.

    With `--full` the run is stopped by Ctrl-C, and resumed as the command said.
    """
    data = ["--train", "cells/train/labels.json", "--test", TEST_DATA]
    classes = ["--class-map", "pale=RBC", "--class-map", "dark=WBC", "--set", "batch_size=8"]
    options = ["--image-size", "96", "--epochs", "2", "--run", RUN]
    train = ["train", "yolov5_spd_n", "--weights", "bccd", *data, *options, *classes]
    if request.config.getoption("--full"):
        resuming = f"Resuming {RUN} after epoch 1 of 2."
        output = newcomer.run(*stop(newcomer, train), told=[resuming, BUILDING, EVALUATED])
    else:
        output = newcomer.run(*train, told=[COST, BUILDING, EVALUATED])
        first, log, output = output.split("\n", 2)
        assert first == "Epoch 1/2"
        assert re.match(rf"2/2 - {NUMBER}s - .*box_loss: {NUMBER} - ", log)
    epoch, log, score, threshold = output.splitlines()
    assert epoch == "Epoch 2/2"
    assert re.match(rf"2/2 - {NUMBER}s - .*val_AP: {NUMBER} - val_AP50: {NUMBER} - ", log)
    scores = [f"{name} ({NUMBER})" for name in ("AP", "AP50", "AP_small")]
    found = re.fullmatch(rf"{', '.join(scores)}\. Everything is in {RUN}/", score)
    results = newcomer.json(f"{RUN}/results.json")
    assert float(found[1]) == pytest.approx(results["AP"], abs=6e-4)
    best = newcomer.json(f"{RUN}/scores.json")["best_f1"]
    assert threshold.endswith(f"predict --confidence {best['confidence']:.3f}`.")
    assert results["AP50"] > 0.5  # the preset finds such cells, and still does after fine-tuning
    return newcomer


def test_check_data(newcomer):
    output = newcomer.run("check-data", "cells/train/labels.json", "--image-size", "96")
    assert output.startswith("16 images, 0 of them without a box; 64 boxes, 0 crowd regions.\n")
    assert re.search(r"^Boxes by class: pale \d+, dark \d+$", output, re.M)
    assert output.endswith("\n0 problems.\n")


def test_the_run_is_whole(trained):
    folder = trained.folder / RUN
    rows = list(csv.DictReader((folder / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert rows[0]["val_AP"] == "" and 0 < float(rows[1]["val_AP"]) <= 1
    for name in ("learning_curves.png", "training_images.png"):
        assert Image.open(folder / name).width > 300
    for name in ("recipe.toml", "best.weights.h5", "environment.json", "scores.json"):
        assert (folder / name).stat().st_size > 100
    assert list((folder / "tensorboard" / "train").iterdir())
    assert not list(folder.rglob("*unfinished*"))


def test_evaluate(trained):
    shapes = "8 images, in batches of 1 shape: 96x96 (height x width)."
    output = trained.run("evaluate", TEST_DATA, "--weights", MODEL, told=[shapes])
    results = trained.json(f"{RUN}/results.json")
    average = f"Average precision, IoU 0.50:0.95, all sizes {results['AP']:21.3f}"
    assert output.startswith(average + "\n")
    assert re.search(r"^<8 +0 +- +-$", output, re.M)
    assert re.search(rf"^pale +\d+( +{NUMBER}){{6}}$", output, re.M)
    assert output.endswith("\nScores and pictures are in evaluation/\n")
    assert trained.json("evaluation/scores.json")["metrics"]["AP"] == pytest.approx(results["AP"])
    for name in ("precision_recall.png", "confusion_matrix.png"):
        assert Image.open(trained.folder / "evaluation" / name).width > 300


def test_predict(trained):
    output = trained.run("predict", "cells/test/images", "--weights", MODEL)
    *files, last = output.splitlines()
    assert last == "Images were predicted at 96x96. Pictures, JSON and CSV are in predictions/"
    entries = trained.json("predictions/detections.json")
    for index, (line, entry) in enumerate(zip(files, entries, strict=True)):
        count = len(entry["detections"])
        assert line.startswith(f"cells/test/images/{index}.png: {count} objects: ")
        assert count >= 2
        assert Image.open(trained.folder / "predictions" / entry["picture"]).width >= 96
    rows = (trained.folder / "predictions" / "detections.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(len(entry["detections"]) for entry in entries)


def test_explain(trained):
    output = trained.run("explain", "cells/test/images/0.png", "--weights", MODEL)
    assert output == "explanations/00000_0_features.png\nexplanations/00000_0_confidence.png\n"
    for picture in output.split():
        assert Image.open(trained.folder / picture).width > 300


def test_export_and_benchmark(trained):
    converting = f"Converting {MODEL}: up to a minute."
    output = trained.run("export", MODEL, "--data", TEST_DATA, told=[converting])
    written, compared = output.splitlines()
    assert re.fullmatch(rf"{RUN}/model\.tflite: 8\.\d MB, images of 96x96", written)
    assert re.fullmatch(
        rf"Compared with the Keras model on 8 images of {TEST_DATA}: (99|100)\.\d% of the boxes "
        rf"are found by both, and their coordinates differ by at most {NUMBER}(e-\d+)? "
        r"network pixels\.",
        compared,
    )
    output = trained.run("benchmark", MODEL, f"{RUN}/model.tflite", "--repeats", "3")
    head, keras, tflite, parameters, settings = output.splitlines()
    assert head.split() == ["file", "size", "input", "median", "p95", "images/s", "ratio", "memory"]
    row = rf"{NUMBER} MB +1 x 96x96 +{NUMBER} ms +{NUMBER} ms +{NUMBER} +{NUMBER} +{NUMBER} MB"
    assert re.fullmatch(rf"{MODEL} +{row}", keras)
    assert re.fullmatch(rf"{RUN}/model\.tflite +{row}", tflite)
    assert float(keras.split()[-2]) < 300  # MB, without TensorFlow
    assert re.fullmatch(
        rf"{MODEL}: [\d,]+ parameters, 0\.\d+ G multiply-adds per image", parameters
    )
    assert re.fullmatch(r"Noise, \d+ threads?\.", settings)


def test_web_page(trained, browser):
    """An image is dropped on the page, and the page shows boxes."""
    pytest.importorskip("gradio", reason="the web page needs Gradio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with trained.start("demo", "--web", "--weights", MODEL, "--port", str(port)) as process:
        line = process.stdout.readline()
        assert line == f"The page is at http://127.0.0.1:{port}/ (press Ctrl+C to stop).\n"
        page, errors, hosts = browser.new_page(), [], set()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        page.on("request", lambda asked: hosts.add(urllib.parse.urlsplit(asked.url).netloc))
        page.goto(f"http://127.0.0.1:{port}/")
        page.set_input_files("input[type=file]", trained.folder / "cells/test/images/0.png")
        page.get_by_text(re.compile(r"^\d+ objects: ")).wait_for(timeout=60_000)
        page.screenshot(path=trained.folder / "page.png", full_page=True)
        count = int(page.get_by_text(re.compile(r"^\d+ objects: ")).inner_text().split()[0])
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    assert count >= 2
    assert not errors and hosts == {f"127.0.0.1:{port}"}
    colours = np.unique(np.asarray(Image.open(trained.folder / "page.png")).reshape(-1, 4), axis=0)
    assert len(colours) > 100
    assert (output, error, process.returncode) == ("", "", 0)
